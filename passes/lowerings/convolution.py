"""Convolution as in Equation 1: cross-correlation, sum over input channels, bias."""

from __future__ import annotations

from torch import Tensor, nn

from gos_fx.ir.dim import Dim, symbol
from gos_fx.passes.lower import Lowering, Shape, lowering
from gos_fx.passes.lowerings.layout import (
    channels_first,
    check_batch,
    lift,
    pair,
    restore,
)
from gos_fx.passes.lowerings.padding import Sides, pad

Convolution = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d


@lowering(nn.Conv1d, axes=channels_first)
def conv1d(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """On a map of one row."""
    assert isinstance(module, nn.Conv1d)
    check_batch(before, 3, "a convolution")
    weight = module.weight.detach().unsqueeze(2)
    return restore(state, _convolved(state, module, lift(state, x), after, weight), 3)


@lowering(nn.Conv2d)
def conv2d(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """Dense, depthwise (groups = C_in) and grouped forms have their own templates."""
    assert isinstance(module, nn.Conv2d)
    check_batch(before, 4, "a convolution")
    return _convolved(state, module, x, after, module.weight)


def _convolved(
    state: Lowering,
    module: nn.Conv1d | nn.Conv2d,
    x: str,
    after: Shape,
    weight: Tensor,
) -> str:
    rank = len(after)
    sides = _padding(module, rank)
    if module.padding_mode != "zeros":
        x, sides = pad(state, x, sides, module.padding_mode), (0, 0, 0, 0)
    state.bind("P_h P_w", (sides[0], sides[2]))
    state.bind("S_h S_w", pair(module.stride, rank))
    return correlated(state, module, x, after, weight)


def correlated(
    state: Lowering, module: Convolution, x: str, after: Shape, weight: Tensor
) -> str:
    """Cross-correlation with ``weight``, its sum over ci, and the module's bias.

    Stride and padding of the site are bound already; the others are those of the
    module. A map of one row has kernels of one row.
    """
    one_row = len(after) == 3
    sizes, spread = weight.shape[2:], pair(module.dilation, len(after))
    c_out, *_ = state.bind("C_out H_out W_out", (after[1], *pair(after[2:], 3)))
    kernel = state.bind("K_h K_w", sizes)
    dilation = state.bind("D_h D_w", spread)
    groups, c_in = _groups(state, module)
    kernel = _literal(kernel, tuple(sizes) == (1, 1), one_row)
    b = state.builder
    value = b.emit(
        "cross_correlation",
        x,
        state.weight("w", (c_out, c_in // groups, *kernel), weight),
        stride=_literal((symbol("S_h"), symbol("S_w")), False, one_row),
        dilation=_literal(dilation, spread == (1, 1), one_row),
        groups=groups,
    )
    value = b.emit("sum", value, axis="ci")
    if module.bias is None:
        return value
    return b.emit("add", value, state.weight("b", (c_out,), module.bias))


def _literal(names: tuple[Dim, ...], ones: bool, one_row: bool) -> tuple[Dim, Dim]:
    """Sizes that are one by their kind of operator, not by its site."""
    return (1 if ones or one_row else names[0], 1 if ones else names[1])


def _groups(state: Lowering, module: Convolution) -> tuple[Dim, Dim]:
    (c_in,) = state.bind("C_in", (module.in_channels,))
    if module.groups == 1:
        return 1, c_in
    if module.groups == module.in_channels:
        return c_in, c_in
    return state.bind("G", (module.groups,))[0], c_in


def _padding(module: nn.Conv1d | nn.Conv2d, rank: int) -> Sides:
    if module.padding == "valid":
        return 0, 0, 0, 0
    if isinstance(module.padding, str):
        rows, columns = (
            d * (k - 1)
            for d, k in zip(
                pair(module.dilation, rank), pair(module.kernel_size, rank), strict=True
            )
        )
        # torch puts the odd element of "same" behind, as solved padding does
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2
    rows, columns = pair(module.padding, rank, 0)
    return rows, rows, columns, columns
