"""Pooling modules; windows that overhang (ceil_mode) follow from the output size."""

from __future__ import annotations

from typing import Any

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Lowering, Shape, lowering


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _window(
    state: Lowering, module: nn.MaxPool2d | nn.AvgPool2d, before: Shape, after: Shape
) -> dict[str, Any]:
    if len(before) != 4:
        raise Unsupported("pooling without a batch axis")
    state.bind("H_out W_out", after[2:])
    state.bind("P_h P_w", _pair(module.padding))
    state.bind("D_h D_w", (1, 1))
    return {
        "kernel": state.bind("K_h K_w", _pair(module.kernel_size)),
        "stride": state.bind("S_h S_w", _pair(module.stride)),
    }


@lowering(nn.MaxPool2d)
def max_pool(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    assert isinstance(module, nn.MaxPool2d)
    if _pair(module.dilation) != (1, 1) or module.return_indices:
        raise Unsupported("max pooling with dilation or indices")
    return state.builder.emit("max_pool", x, **_window(state, module, before, after))


@lowering(nn.AvgPool2d)
def avg_pool(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    assert isinstance(module, nn.AvgPool2d)
    padded = _pair(module.padding) != (0, 0) and module.count_include_pad
    if module.divisor_override is not None or (module.ceil_mode and padded):
        raise Unsupported("average pooling with a divisor of its own")
    window = _window(state, module, before, after)
    return state.builder.emit("avg_pool", x, **window, include_pad=padded)


@lowering(nn.AdaptiveAvgPool2d)
def adaptive_avg_pool(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """Windows of H // H_out where that divides; others differ in size."""
    if len(before) != 4:
        raise Unsupported("pooling without a batch axis")
    if before[2] % after[2] or before[3] % after[3]:
        raise Unsupported(f"adaptive pooling from {before[2:]} to {after[2:]}")
    kernel = (before[2] // after[2], before[3] // after[3])
    state.bind("H_out W_out", after[2:])
    state.bind("P_h P_w", (0, 0))
    state.bind("D_h D_w", (1, 1))
    return state.builder.emit(
        "avg_pool",
        x,
        kernel=state.bind("K_h K_w", kernel),
        stride=state.bind("S_h S_w", kernel),
        include_pad=False,
    )
