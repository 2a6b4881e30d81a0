"""Pooling modules; windows that overhang (ceil_mode) follow from the output size."""

from __future__ import annotations

from typing import Any

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Lowering, Shape, lowering
from gos_fx.passes.lowerings.layout import (
    channels_first,
    check_batch,
    lift,
    pair,
    restore,
)
from gos_fx.passes.lowerings.padding import pad

MaxPool = nn.MaxPool1d | nn.MaxPool2d
AvgPool = nn.AvgPool1d | nn.AvgPool2d
_ONE_ROW = (nn.MaxPool1d, nn.AvgPool1d)


@lowering(nn.MaxPool1d, axes=channels_first)
@lowering(nn.MaxPool2d)
def max_pool(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    assert isinstance(module, nn.MaxPool1d | nn.MaxPool2d)
    rank = _rank(module, before)
    if pair(module.dilation, rank) != (1, 1) or module.return_indices:
        raise Unsupported("max pooling with dilation or indices")
    window = _window(state, module, after, pair(module.padding, rank, 0))
    value = state.builder.emit("max_pool", lift(state, x), **window)
    return restore(state, value, rank)


@lowering(nn.AvgPool1d, axes=channels_first)
@lowering(nn.AvgPool2d)
def avg_pool(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """Padding counts where the module says so; what overhangs it never does."""
    assert isinstance(module, nn.AvgPool1d | nn.AvgPool2d)
    rank, b = _rank(module, before), state.builder
    x, sides = lift(state, x), pair(module.padding, rank, 0)
    counted = sides != (0, 0) and module.count_include_pad
    divisor = getattr(module, "divisor_override", None)
    if counted and module.ceil_mode and divisor is None:
        x = pad(state, x, (sides[0], sides[0], sides[1], sides[1]), "zeros")
        counted, sides = False, (0, 0)
    window = _window(state, module, after, sides)
    include_pad = counted or divisor is not None
    value = b.emit("avg_pool", x, **window, include_pad=include_pad)
    if divisor is not None:
        rows, columns = pair(module.kernel_size, rank)
        scale = b.emit("scalar", value=rows * columns / divisor)
        value = b.emit("hadamard", value, scale)
    return restore(state, value, rank)


def _rank(module: MaxPool | AvgPool, before: Shape) -> int:
    rank = 3 if isinstance(module, _ONE_ROW) else 4
    check_batch(before, rank, "pooling")
    return rank


def _window(
    state: Lowering, module: MaxPool | AvgPool, after: Shape, padding: tuple[int, int]
) -> dict[str, Any]:
    """Attributes of a pooling window; those of one row have no symbols for it."""
    rank = len(after)
    stride = module.kernel_size if module.stride is None else module.stride
    state.bind("P_h P_w", padding)
    return window(state, after, pair(module.kernel_size, rank), pair(stride, rank))


def window(
    state: Lowering, after: Shape, kernel: tuple[int, int], stride: tuple[int, int]
) -> dict[str, Any]:
    rank = len(after)
    state.bind("H_out W_out", pair(after[2:], rank))
    state.bind("D_h D_w", (1, 1))
    k_h, k_w = state.bind("K_h K_w", kernel)
    s_h, s_w = state.bind("S_h S_w", stride)
    if rank == 3:
        return {"kernel": (1, k_w), "stride": (1, s_w)}
    return {"kernel": (k_h, k_w), "stride": (s_h, s_w)}
