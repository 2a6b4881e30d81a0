"""Linear maps along rows and columns that no instruction has: matrix products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gos_fx.passes.lower import Lowering, Shape

# Takes [1, C, W] and a size: resamples the last axis.
Along = Callable[[Tensor, int], Tensor]


def resampled(state: Lowering, x: str, after: Shape, *along: Along) -> str:
    """``x`` [N, C, H, W] resampled along both axes, along W alone for a map of one row.

    ``along`` resamples an axis: rows, then columns, or one function for both. Its
    matrix is what it makes of the unit matrix.
    """
    b = state.builder
    height, width = b.types[x].shape[2:]
    if len(after) == 4:
        (h_out,) = state.bind("H_out", (after[2],))
        matrix = _matrix(along[0], state.bindings[str(height)], after[2])
        rows = state.weight("rows", (h_out, height), matrix.T.contiguous(), "constant")
        x = b.emit("matmul", rows, x)
    (w_out,) = state.bind("W_out", (after[-1],))
    matrix = _matrix(along[-1], state.bindings[str(width)], after[-1])
    return b.emit(
        "matmul", x, state.weight("columns", (width, w_out), matrix, "constant")
    )


def _matrix(along: Along, size: int, result: int) -> Tensor:
    """[size, result]"""
    return along(torch.eye(size).unsqueeze(0), result).squeeze(0)
