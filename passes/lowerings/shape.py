"""Modules that only move values."""

from __future__ import annotations

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.ir.dim import product
from gos_fx.passes.lower import Lowering, Shape, lowering


@lowering(nn.Flatten)
def flatten(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """[N, C, H, W] -> [N, C H W]"""
    assert isinstance(module, nn.Flatten)
    if module.start_dim != 1 or module.end_dim not in (-1, len(before) - 1):
        raise Unsupported("Flatten of another range than all axes behind the batch")
    shape = state.builder.types[x].shape
    return state.builder.emit("reshape", x, shape=(shape[0], product(shape[1:])))
