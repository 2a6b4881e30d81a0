"""Pooling to a given size. Windows of one size are ordinary pooling; averages over
windows that differ in size are products with a matrix along each axis."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional as F

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Lowering, Shape, lowering
from gos_fx.passes.lowerings.layout import (
    channels_first,
    check_batch,
    lift,
    pair,
    restore,
)
from gos_fx.passes.lowerings.pooling import window
from gos_fx.passes.lowerings.resampling import resampled


@lowering(nn.AdaptiveAvgPool1d, axes=channels_first)
@lowering(nn.AdaptiveAvgPool2d)
def adaptive_avg_pool(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    one_row = isinstance(module, nn.AdaptiveAvgPool1d)
    check_batch(before, 3 if one_row else 4, "pooling")
    x = lift(state, x)
    if _divides(before, after):
        windows = _equal_windows(state, before, after)
        value = state.builder.emit("avg_pool", x, **windows, include_pad=False)
    else:
        value = resampled(state, x, after, F.adaptive_avg_pool1d)
    return restore(state, value, len(before))


@lowering(nn.AdaptiveMaxPool1d, axes=channels_first)
@lowering(nn.AdaptiveMaxPool2d)
def adaptive_max_pool(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    assert isinstance(module, nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d)
    one_row = isinstance(module, nn.AdaptiveMaxPool1d)
    check_batch(before, 3 if one_row else 4, "pooling")
    if module.return_indices:
        raise Unsupported("max pooling with dilation or indices")
    if not _divides(before, after):
        raise Unsupported(f"adaptive max pooling from {before[2:]} to {after[2:]}")
    windows = _equal_windows(state, before, after)
    value = state.builder.emit("max_pool", lift(state, x), **windows)
    return restore(state, value, len(before))


def _divides(before: Shape, after: Shape) -> bool:
    return not any(a % b for a, b in zip(before[2:], after[2:], strict=True))


def _equal_windows(state: Lowering, before: Shape, after: Shape) -> dict[str, Any]:
    sizes = tuple(a // b for a, b in zip(before[2:], after[2:], strict=True))
    kernel = pair(sizes, len(before))
    state.bind("P_h P_w", (0, 0))
    return window(state, after, kernel, kernel)
