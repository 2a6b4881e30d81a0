"""Batch norm in eval mode, from its instructions."""

from __future__ import annotations

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Lowering, Shape, lowering


@lowering(nn.BatchNorm2d)
def batch_norm(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """y = (x - mean) / sqrt(var + eps) * gain + shift, per channel."""
    assert isinstance(module, nn.BatchNorm2d)
    if module.running_mean is None or module.running_var is None:
        raise Unsupported("batch norm without running statistics")
    b = state.builder
    channels = b.types[x].shape[1]
    mean = state.weight("mean", (channels,), module.running_mean, "constant")
    variance = module.running_var + module.eps
    var = state.weight("var", (channels,), variance, "constant")
    value = b.emit("sub", x, mean)
    value = b.emit("div", value, b.emit("sqrt", var))
    if module.bias is None:  # which torch's annotations leave out
        return value  # type: ignore[unreachable]
    gain = state.weight("gain", (channels,), module.weight)
    shift = state.weight("shift", (channels,), module.bias)
    return b.emit("add", b.emit("hadamard", value, gain), shift)
