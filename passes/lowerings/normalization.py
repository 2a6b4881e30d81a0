"""Normalisation in eval mode, from its instructions."""

from __future__ import annotations

from torch import Tensor, nn

from gos_fx.errors import Unsupported
from gos_fx.ir.dim import product
from gos_fx.passes.lower import Lowering, Shape, lowering
from gos_fx.passes.lowerings.layout import (
    channels_first,
    channels_last,
    check_batch,
    lift,
    reshape,
    restore,
    tokens,
)

WithStatistics = nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm1d | nn.InstanceNorm2d


@lowering(nn.BatchNorm1d, axes=channels_first)
@lowering(nn.BatchNorm2d)
def batch_norm(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """y = (x - mean) / sqrt(var + eps) * gain + shift, per channel."""
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    return _by_statistics(state, module, x)


def _by_statistics(state: Lowering, module: WithStatistics, x: str) -> str:
    if module.running_mean is None or module.running_var is None:
        raise Unsupported("batch norm without running statistics")
    b = state.builder
    rank, x = b.types[x].rank, lift(state, x)
    channels = b.types[x].shape[1]
    mean = state.weight("mean", (channels,), module.running_mean, "constant")
    variance = module.running_var + module.eps
    var = state.weight("var", (channels,), variance, "constant")
    value = b.emit("sub", x, mean)
    value = b.emit("div", value, b.emit("sqrt", var))
    value = _affine(state, value, module.weight, module.bias)
    return restore(state, value, rank)


def _last_or_by_rank(state: Lowering, module: nn.Module, shape: Shape) -> str:
    assert isinstance(module, nn.LayerNorm)
    last = len(module.normalized_shape) == 1
    return channels_last(state, module, shape) if last else ""


@lowering(nn.LayerNorm, axes=_last_or_by_rank)
def layer_norm(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """y = (x - mean) / sqrt(var + eps) * gain + shift over the last axes."""
    assert isinstance(module, nn.LayerNorm)
    shape = state.builder.types[x].shape
    value = tokens(state, x, len(module.normalized_shape))
    value = _standardised(state, value, module.eps)
    value = _affine(state, value, module.weight, module.bias)
    return reshape(state, value, shape)


def _in_groups(state: Lowering, module: nn.Module, shape: Shape) -> str:
    """Channels as groups of C_g."""
    assert isinstance(module, nn.GroupNorm)
    state.bind("G C_g", (module.num_groups, shape[1] // module.num_groups))
    return channels_first(state, module, shape).replace("C_in", "G*C_g")


@lowering(nn.GroupNorm, axes=_in_groups)
def group_norm(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """As layer norm, over the channels of a group and the axes behind them."""
    assert isinstance(module, nn.GroupNorm)
    b = state.builder
    n, channels, *rest = b.types[x].shape
    groups, each = state.bind(
        "G C_g", (module.num_groups, before[1] // module.num_groups)
    )
    value = b.emit("reshape", x, shape=(n, groups, product((each, *rest))))
    value = _standardised(state, value, module.eps)
    rows = (1, *rest) if len(rest) == 1 else rest
    value = b.emit("reshape", value, shape=(n, channels, *rows))
    value = _affine(state, value, module.weight, module.bias)
    return restore(state, value, len(before))


@lowering(nn.InstanceNorm1d, axes=channels_first)
@lowering(nn.InstanceNorm2d)
def instance_norm(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """As layer norm, over rows and columns; with running statistics as batch norm."""
    assert isinstance(module, nn.InstanceNorm1d | nn.InstanceNorm2d)
    rank = 3 if isinstance(module, nn.InstanceNorm1d) else 4
    check_batch(before, rank, "normalisation")
    if module.track_running_stats:
        return _by_statistics(state, module, x)
    b = state.builder
    x = lift(state, x)
    n, channels, h, w = b.types[x].shape
    value = reshape(state, x, (n, channels, h * w))
    value = _standardised(state, value, module.eps)
    value = b.emit("reshape", value, shape=(n, channels, h, w))
    value = _affine(state, value, module.weight, module.bias)
    return restore(state, value, rank)


def _standardised(state: Lowering, x: str, eps: float) -> str:
    """Mean zero and variance one along the last axis."""
    b = state.builder
    centred = b.emit("sub", x, b.emit("mean", x, axis="co", keep=True))
    squares = b.emit("hadamard", centred, centred)
    variance = b.emit("mean", squares, axis="co", keep=True)
    shifted = b.emit("add", variance, b.emit("scalar", value=eps))
    return b.emit("div", centred, b.emit("sqrt", shifted))


def _affine(state: Lowering, x: str, gain: Tensor | None, shift: Tensor | None) -> str:
    """x gain + shift, one number for each channel."""
    b = state.builder
    t = b.types[x]
    channels = (t.shape[-1 if t.rank == 3 else 1],)
    for name, opcode, value in (("gain", "hadamard", gain), ("shift", "add", shift)):
        if value is not None:
            flat = value if value.dim() == 1 else value.detach().flatten()
            x = b.emit(opcode, x, state.weight(name, channels, flat))
    return x
