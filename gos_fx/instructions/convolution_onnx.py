"""Cross-correlation as ONNX: one ``Conv``, also where only the sum of its maps is read.

``b`` is a :class:`gos_fx.passes.onnx.builder.OnnxBuilder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any

import numpy as np

from gos_fx.ir.dilation import reach, reaches, tap_offsets
from gos_fx.ir.types import Type


def conv_form(
    b: Any,
    operands: Sequence[str],
    types: Sequence[Type],
    result: Type,
    attributes: Mapping[str, Any],
) -> str:
    """One map per pair of output and input channel: a depthwise convolution with the
    filters ordered (input channel, output of its group)."""
    _, channels, *_ = types[0].shape
    outputs, per_group, *_ = types[1].shape
    groups = attributes["groups"]
    per = outputs // groups
    w, window, dilation = _filters(b, operands[1], types[1], attributes)
    w = b.op("Reshape", w, b.constant([groups, per, per_group, -1]))
    w = b.op("Transpose", w, perm=[0, 2, 1, 3])
    w = b.op("Reshape", w, b.constant([channels * per, 1, *window]))
    y = _convolve(b, operands[0], w, "", {**attributes, "groups": channels}, dilation)
    extents = list(result.shape[3:])
    y = b.op("Reshape", y, b.constant([-1, groups, per_group, per, *extents]))
    y = b.op("Transpose", y, perm=[0, 1, 3, 2, 4, 5])
    y = b.op("Reshape", y, b.constant([-1, outputs, per_group, *extents]))
    return str(y)


def channel_sum(
    b: Any,
    opcode: str,
    operands: Sequence[str],
    types: Sequence[Type],
    attributes: Mapping[str, Any],
    bias: str = "",
) -> str:
    """The ``sum``, ``mean`` or ``weighted_mean`` over the maps, plus a bias.

    ``operands`` are the feature map, the filters, and of a weighted mean the gains.
    """
    x, w, *gains = operands
    w, _, dilation = _filters(b, w, types[1], attributes)
    if gains:
        (gain,) = gains
        gain = b.op("Div", gain, b.op("ReduceSum", gain))
        w = b.op("Mul", w, b.op("Reshape", gain, b.constant([1, -1, 1, 1])))
    y = _convolve(b, x, w, bias, attributes, dilation)
    if opcode == "mean":
        y = b.op("Div", y, b.constant(float(types[1].shape[1])))  # type: ignore[arg-type]
    return str(y)


def _convolve(
    b: Any,
    x: str,
    w: str,
    bias: str,
    attributes: Mapping[str, Any],
    dilation: Sequence[int],
) -> str:
    top, bottom, left, right = attributes["padding"]
    pads = [top, left, bottom, right]
    if min(pads) < 0:  # Pad crops as well, Conv only pads
        x = b.op("Pad", x, b.constant([0, 0, top, left, 0, 0, bottom, right]))
        pads = [0, 0, 0, 0]
    y = b.op(
        "Conv",
        *(x, w, bias)[: 3 if bias else 2],
        dilations=list(dilation),
        group=attributes["groups"],
        pads=pads,
        strides=list(attributes["stride"]),
    )
    return str(y)


def _filters(
    b: Any, w: str, found: Type, attributes: Mapping[str, Any]
) -> tuple[str, list[int], list[int]]:
    """Filters, their extents, and the dilation of the ``Conv``.

    Zeros are written out where neighbouring taps differ in distance, or runs of groups
    in dilation: then all filters have the window of the largest.
    """
    kernel: Any = found.shape[2:]
    runs = attributes.get("group_dilation", ())
    if runs:
        window: Any = reaches(kernel, (1, 1), attributes["groups"], runs)
        parts = b.op("Split", w, outputs=len(runs), axis=0, num_outputs=len(runs))
        spread = []
        for part, run in zip(parts if len(runs) > 1 else (parts,), runs, strict=True):
            for axis, entry in enumerate(run):
                spare = window[axis] - reach(entry, kernel[axis])
                offsets = tap_offsets(entry, kernel[axis])
                places = [spare // 2 + offset for offset in offsets]
                part = _spread(b, part, axis, places, window[axis])
            spread.append(part)
        return b.op("Concat", *spread, axis=0), list(window), [1, 1]
    extents, steps = [], []
    for axis, entry in enumerate(attributes["dilation"]):
        offsets = tap_offsets(entry, kernel[axis])
        steps.append(gcd(*offsets) or 1)
        places = [offset // steps[axis] for offset in offsets]
        extents.append(places[-1] + 1)
        w = _spread(b, w, axis, places, extents[axis])
    return w, extents, steps


def _spread(b: Any, w: str, axis: int, places: Sequence[int], extent: int) -> str:
    """Filters with their taps at these places of an axis: a product with a matrix of
    zeros and ones, which a runtime folds."""
    if list(places) == list(range(extent)):
        return w
    matrix = np.zeros((len(places), extent), b.dtype)
    matrix[np.arange(len(places)), places] = 1
    if axis == 0:
        return str(b.op("MatMul", b.constant(matrix.T.copy()), w))
    return str(b.op("MatMul", w, b.constant(matrix)))
