"""Linear as a matrix product with the transposed weight."""

from __future__ import annotations

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Lowering, Shape, lowering


@lowering(nn.Linear)
def linear(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """y = x w^T + b on maps [N, C_in] and [N, T, C_in]."""
    assert isinstance(module, nn.Linear)
    if len(before) > 3:
        raise Unsupported(f"Linear on a feature map of rank {len(before)}")
    c_in, c_out = state.bind("C_in C_out", (module.in_features, module.out_features))
    b = state.builder
    weight = state.weight("w", (c_out, c_in), module.weight)
    value = b.emit("matmul", x, b.emit("transpose", weight, axes=(1, 0)))
    if module.bias is None:  # which torch's annotations leave out
        return value  # type: ignore[unreachable]
    return b.emit("add", value, state.weight("b", (c_out,), module.bias))
