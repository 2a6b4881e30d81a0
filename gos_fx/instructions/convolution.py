"""Cross-correlation: one map per pair of output and input channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gos_fx.errors import VerifyError
from gos_fx.instructions.convolution_onnx import conv_form
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dilation import (
    Dilation,
    reaches,
    run_paddings,
    stretches,
    tap_offsets,
)
from gos_fx.ir.dim import Dim, product
from gos_fx.ir.opcode import Operand, instruction, windowed_extent
from gos_fx.ir.types import Type

# Dilations up to 3 are what the paper's Table 3 found on its devices.
_DILATIONS = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (3, 3))
Padding = tuple[int, int, int, int]


def _window(
    x: Type,
    w: Type,
    *,
    dilation: Dilation,
    groups: Dim,
    group_dilation: tuple[Dilation, ...] = (),
    **_: Any,
) -> Any:
    return reaches(w.shape[2:], dilation, groups, group_dilation), (1, 1)


def _shape(
    x: Type,
    w: Type,
    *,
    stride: tuple[Dim, Dim],
    dilation: Dilation,
    groups: Dim,
    padding: Padding | None = None,
    group_dilation: tuple[Dilation, ...] | None = None,
) -> tuple[Dim, ...]:
    if group_dilation == ():
        raise VerifyError("group_dilation=() names no run", do="leave it out")
    channels, per_group = x.shape[1], w.shape[1]
    if isinstance(channels, int) and isinstance(groups, int):
        counts = (channels, w.shape[0])
        if any(isinstance(count, int) and count % groups for count in counts):
            raise VerifyError(f"{groups} groups do not divide the channels of {x}, {w}")
    if per_group != channels // groups:
        raise VerifyError(f"{w} does not fit {x} in {groups} groups")
    window = reaches(w.shape[2:], dilation, groups, group_dilation or ())
    extents = []
    for i, name in enumerate("hw"):
        pads = None if padding is None else (padding[2 * i], padding[2 * i + 1])
        extents.append(
            windowed_extent(x.shape[2 + i], name, stride[i], pads, window[i])
        )
    return (x.shape[0], w.shape[0], per_group, *extents)


def _step(offsets: Sequence[int]) -> int:
    """The largest dilation that meets all taps."""
    return gcd(*offsets) or 1


def _uniform(w: Tensor, dilation: Dilation) -> tuple[Tensor, tuple[int, int]]:
    """The same filter with one dilation on each axis, zeros between uneven taps."""
    steps = []
    for axis, entry in zip((2, 3), dilation, strict=True):
        offsets = tap_offsets(entry, w.shape[axis])
        step = _step(offsets)
        steps.append(step)
        places = [offset // step for offset in offsets]
        if places != list(range(w.shape[axis])):
            shape = [*w.shape]
            shape[axis] = places[-1] + 1
            index = torch.tensor(places, device=w.device)
            w = w.new_zeros(shape).index_copy(axis, index, w)
    return w, (steps[0], steps[1])


def _by_run(
    compute: Callable[..., Tensor],
    x: Tensor,
    w: Tensor,
    *,
    groups: int,
    dilation: Dilation,
    padding: Padding,
    stride: tuple[int, int],
    group_dilation: tuple[Dilation, ...] = (),
) -> Tensor:
    """``compute`` for the channels of each dilation, and those in their order again."""
    if not group_dilation:
        w, steps = _uniform(w, dilation)
        return compute(x, w, stride, padding, steps, groups)
    count = len(group_dilation)
    paddings = run_paddings((w.shape[2], w.shape[3]), group_dilation, padding)
    parts: dict[int, Tensor] = {}
    for pair, mine in stretches(group_dilation).items():
        taken = _shares(x, 1, mine, count)
        filters, steps = _uniform(_shares(w, 0, mine, count), pair)
        runs = sum(n for _, n in mine)
        share, pads = groups * runs // count, paddings[mine[0][0]]
        y = compute(taken, filters, stride, pads, steps, share)
        at = 0
        for first, n in mine:
            parts[first] = _shares(y, 1, [(at, n)], runs)
            at += n
    return torch.cat([parts[first] for first in sorted(parts)], 1)


def _shares(
    value: Tensor, axis: int, stretches: Sequence[tuple[int, int]], runs: int
) -> Tensor:
    """What some runs of so many have of an axis, side by side."""
    size = value.shape[axis] // runs
    if stretches == [(0, runs)]:
        return value
    parts = [value.narrow(axis, first * size, n * size) for first, n in stretches]
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def _convolved(
    x: Tensor,
    w: Tensor,
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int],
    groups: int,
    bias: Tensor | None = None,
) -> Tensor:
    top, bottom, left, right = padding
    if top == bottom and left == right and top >= 0 and left >= 0:
        return F.conv2d(x, w, bias, stride, (top, left), dilation, groups)
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, w, bias, stride, 0, dilation, groups)


def _maps(
    x: Tensor,
    w: Tensor,
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    channels = x.shape[1]
    outputs, per_group = w.shape[:2]
    # One depth-wise convolution with the maps ordered (input channel, output of its
    # group) gives each product once; reordering puts the output channel first.
    per = outputs // groups
    kernels = w.view(groups, per, per_group, *w.shape[2:]).transpose(1, 2)
    kernels = kernels.reshape(channels * per, 1, *w.shape[2:])
    maps = _convolved(x, kernels, stride, padding, dilation, channels)
    maps = maps.view(-1, groups, per_group, per, *maps.shape[2:]).transpose(2, 3)
    return maps.reshape(-1, outputs, per_group, *maps.shape[4:])


def _summed(x: Tensor, w: Tensor, bias: Tensor | None, /, **attributes: Any) -> Tensor:
    """``sum(cross_correlation(x, w), axis="ci") + bias`` without the maps between."""
    if attributes.get("group_dilation"):
        y = _by_run(_convolved, x, w, **attributes)
        return y if bias is None else y + bias[:, None, None]
    return _by_run(partial(_convolved, bias=bias), x, w, **attributes)


@instruction(
    category="convolution",
    attributes={
        "stride": Attribute("dims", (1, 1), low=1),
        "dilation": Attribute("dilation", (1, 1), choices=_DILATIONS, low=1),
        "groups": Attribute("dim", 1, low=1),
        "padding": Attribute("dims", (0, 0, 0, 0), solved=True),
        "group_dilation": Attribute("dilations", optional=True, low=1),
    },
    operands={
        "x": Operand(roles=("map",), ranks=(4,)),
        "w": Operand(roles=("weight", "constant"), ranks=(4,)),
    },
    shape=_shape,
    flops=lambda out, x, w, **_: product((2, out.elements, w.shape[2], w.shape[3])),
    rtol=1e-4,
    window=_window,
    summed=_summed,
    onnx=conv_form,
)
def cross_correlation(
    x: Tensor,
    w: Tensor,
    /,
    *,
    stride: tuple[int, int],
    dilation: Dilation,
    groups: int,
    padding: Padding,
    group_dilation: tuple[Dilation, ...] = (),
) -> Tensor:
    """y[n,o,c,i,j] = sum_kl x[n, g C/G + c, s i + a_k - p, s j + b_l - p] w[o,c,k,l]

    Each output channel o sees the channels of its group g = g(o); the maps are summed
    by the aggregation that follows (Equation 1 of the paper). Tap k lies a_k = k d rows
    behind the first, or a_k = d_1 + ... + d_k where ``dilation`` gives the gap d_i
    between each tap and the next: d_i - 1 rows of zeros inside the filter; so b_l for
    columns. The window covers 1 + a_(K-1) rows.

    ``group_dilation`` has n dilations (Table 3): the groups in n equal runs, run
    floor(g n / G) has one of its own. The window is then that of the largest run, on
    each axis; the taps of a run that covers r of its R rows begin floor((R - r) / 2)
    rows below its edge.
    """
    return _by_run(
        _maps,
        x,
        w,
        stride=stride,
        dilation=dilation,
        groups=groups,
        padding=padding,
        group_dilation=group_dilation,
    )
