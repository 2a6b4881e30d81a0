"""Linear as a matrix product with the transposed weight."""

from __future__ import annotations

from torch import nn

from gos_fx.passes.lower import Lowering, Shape, lowering
from gos_fx.passes.lowerings.layout import channels_last, reshape, tokens


@lowering(nn.Linear, axes=channels_last)
def linear(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """y = x w^T + b on the last axis; more than one axis before it are one."""
    assert isinstance(module, nn.Linear)
    c_in, c_out = state.bind("C_in C_out", (module.in_features, module.out_features))
    b = state.builder
    shape = (*b.types[x].shape[:-1], c_out)
    if len(before) > 3:
        x = tokens(state, x)
    weight = state.weight("w", (c_out, c_in), module.weight)
    value = b.emit("matmul", x, b.emit("transpose", weight, axes=(1, 0)))
    if module.bias is not None:  # which torch's annotations leave out
        value = b.emit("add", value, state.weight("b", (c_out,), module.bias))
    return reshape(state, value, shape)
