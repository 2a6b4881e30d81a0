"""Sums, means and extremes over axes."""

from __future__ import annotations

from typing import Any

import torch

from gos_fx.errors import Unsupported
from gos_fx.ir.types import AXES
from gos_fx.passes.functions.operands import (
    Dims,
    axis_of,
    shape_of,
    shaped,
    value_of,
)
from gos_fx.passes.lower import Lowering, function


def _over(opcode: str, *targets: Any) -> None:
    """The rule of the functions that aggregate like an instruction."""

    @function(*targets)
    def rule(
        state: Lowering, out: Dims, x: Any, dim: Any = None, keepdim: bool = False
    ) -> str:
        value = value_of(state, x)
        rank = len(shape_of(state, value))
        dims = range(rank) if dim is None else dim
        dims = dims if isinstance(dims, list | tuple | range) else (dims,)
        for axis in sorted({axis_of(d, rank) for d in dims}):
            if rank not in AXES:
                raise Unsupported(f"a feature map of rank {rank}")
            name = AXES[rank][axis]
            value = state.builder.emit(opcode, value, axis=name, keep=True)
        return shaped(state, value, out)


_over("mean", torch.mean, "mean")
_over("sum", torch.sum, "sum")
_over("max", torch.amax, "amax")
_over("min", torch.amin, "amin")
