"""The meaning of every instruction for TVM: one function per instruction, same name.

Each takes tensors of ``te`` and the attributes of the instruction, all sizes known, and
gives the tensor of its result; ``name`` is the name of its block in the schedule.
Schedules replace ``cross_correlation``, ``matmul`` and the pools by forms that compute
the same in tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from tvm import te, tirx
from tvm.te import Tensor

from gos_fx.ir.types import axis_index, channel_axis
from gos_fx.kernels import elementary, extremes

TE_INSTRUCTIONS: dict[str, Callable[..., Tensor]] = {}
Padding = tuple[int, int, int, int]


def instruction(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Register the decorated function under its name."""
    TE_INSTRUCTIONS[function.__name__.rstrip("_")] = function
    return function


def shape_of(x: Tensor) -> tuple[int, ...]:
    return tuple(int(extent) for extent in x.shape)


def const(value: float, like: Tensor) -> Any:
    return tirx.const(value, like.dtype)


def pointwise(name: str, function: Callable[..., Any], *values: Tensor) -> Tensor:
    """``function`` of the elements; numbers go with anything, rank-1 values along the
    channels, and axes of size one along those of the others."""
    rank = max(len(v.shape) for v in values)
    full = [shape_of(v) for v in values if len(v.shape) == rank]
    shape = tuple(max(sizes) for sizes in zip(*full))

    def read(v: Tensor, index: tuple[Any, ...]) -> Any:
        if 0 < len(v.shape) < rank:
            index = (index[channel_axis(rank)],)
        return v(*(0 if n == 1 else i for i, n in zip(index, shape_of(v))))

    return te.compute(
        shape, lambda *index: function(*(read(v, index) for v in values)), name=name
    )


def for_dtype(x: Tensor, single: Any, other: Any) -> Any:
    """The approximation for float32, or what TVM has for other types."""
    return single if x.dtype == "float32" else other


@instruction
def add(a: Tensor, b: Tensor, *, name: str) -> Tensor:
    return pointwise(name, lambda x, y: x + y, a, b)


@instruction
def sub(a: Tensor, b: Tensor, *, name: str) -> Tensor:
    return pointwise(name, lambda x, y: x - y, a, b)


@instruction
def hadamard(a: Tensor, b: Tensor, *, name: str) -> Tensor:
    return pointwise(name, lambda x, y: x * y, a, b)


@instruction
def div(a: Tensor, b: Tensor, *, name: str) -> Tensor:
    return pointwise(name, lambda x, y: x / y, a, b)


@instruction
def chain_rule(a: Tensor, b: Tensor, *, name: str) -> Tensor:
    return pointwise(name, lambda x, y: x * y, a, b)


@instruction
def sqrt(x: Tensor, *, name: str) -> Tensor:
    return pointwise(name, tirx.sqrt, x)


@instruction
def exp(x: Tensor, *, name: str) -> Tensor:
    return pointwise(name, for_dtype(x, elementary.exp, tirx.exp), x)


@instruction
def erf(x: Tensor, *, name: str) -> Tensor:
    return pointwise(name, for_dtype(x, elementary.erf, tirx.erf), x)


@instruction
def sigmoid(x: Tensor, *, name: str) -> Tensor:
    return pointwise(name, for_dtype(x, elementary.sigmoid, tirx.sigmoid), x)


@instruction
def tanh(x: Tensor, *, name: str) -> Tensor:
    return pointwise(name, for_dtype(x, elementary.tanh, tirx.tanh), x)


@instruction
def relu(x: Tensor, *, slope: float, name: str) -> Tensor:
    low = const(slope, x)
    if slope == 0.0:
        return pointwise(name, lambda v: extremes.maximum(low, v), x)
    return pointwise(name, lambda v: extremes.larger(v * low, v), x)


@instruction
def softmax(x: Tensor, *, axis: str, name: str) -> Tensor:
    shape = shape_of(x)
    at = axis_index(axis, len(shape))
    power = for_dtype(x, elementary.exp, tirx.exp)
    largest = along(x, at, extremes.largest_number, "largest")
    shifted = te.compute(
        shape,
        lambda *i: power(x(*i) - largest(*i[:at], *i[at + 1 :])),
        name="keep_exp",
    )
    total = along(shifted, at, te.sum, "total")
    return te.compute(
        shape, lambda *i: shifted(*i) / total(*i[:at], *i[at + 1 :]), name=name
    )


def along(
    x: Tensor, at: int, combine: Callable[..., Any], name: str, keep: bool = False
) -> Tensor:
    """Aggregation over one axis, which disappears, or stays with one element."""
    shape = shape_of(x)
    k = te.reduce_axis((0, shape[at]), name="ci")
    kept = (1,) if keep else ()
    return te.compute(
        (*shape[:at], *kept, *shape[at + 1 :]),
        lambda *i: combine(x(*i[:at], k, *i[at + keep :]), axis=[k]),
        name=name,
    )


def _aggregate(
    values: Sequence[Tensor],
    axis: str,
    keep: bool,
    name: str,
    combine: Callable[..., Any],
    pair: Callable[[Any, Any], Any],
) -> Tensor:
    if axis:
        at = axis_index(axis, len(values[0].shape))
        return along(values[0], at, combine, name, keep)
    return pointwise(name, lambda *parts: reduce(pair, parts), *values)


@instruction
def sum_(*values: Tensor, axis: str, keep: bool = False, name: str) -> Tensor:
    return _aggregate(values, axis, keep, name, te.sum, lambda a, b: a + b)


@instruction
def mean(*values: Tensor, axis: str, keep: bool = False, name: str) -> Tensor:
    if axis:
        at = axis_index(axis, len(values[0].shape))
        count = shape_of(values[0])[at]
    else:
        count = len(values)
    total = _aggregate(values, axis, keep, f"{name}_sum", te.sum, lambda a, b: a + b)
    return pointwise(name, lambda v: v * const(1.0 / count, total), total)


@instruction
def max_(*values: Tensor, axis: str, keep: bool = False, name: str) -> Tensor:
    return _aggregate(values, axis, keep, name, extremes.largest, extremes.maximum)


@instruction
def min_(*values: Tensor, axis: str, keep: bool = False, name: str) -> Tensor:
    return _aggregate(values, axis, keep, name, extremes.smallest, extremes.minimum)


@instruction
def weighted_mean(
    x: Tensor, w: Tensor, *, axis: str, keep: bool = False, name: str
) -> Tensor:
    at = axis_index(axis, len(x.shape))
    scaled = te.compute(shape_of(x), lambda *i: x(*i) * w(i[at]), name=f"{name}_scaled")
    k = te.reduce_axis((0, shape_of(w)[0]), name="ci")
    total = te.compute((1,), lambda _: te.sum(w(k), axis=[k]), name=f"{name}_total")
    summed = along(scaled, at, te.sum, f"{name}_sum", keep)
    return te.compute(shape_of(summed), lambda *i: summed(*i) / total(0), name=name)


@instruction
def concat(*values: Tensor, axis: str, name: str) -> Tensor:
    at = axis_index(axis, len(values[0].shape))
    lengths = [shape_of(v)[at] for v in values]
    shape = list(shape_of(values[0]))
    shape[at] = sum(lengths)

    def element(*i: Any) -> Any:
        end = shape[at] - lengths[-1]
        found = values[-1](*i[:at], i[at] - end, *i[at + 1 :])
        for v, length in zip(reversed(values[:-1]), reversed(lengths[:-1])):
            start, end = end - length, end
            part = v(*i[:at], i[at] - start, *i[at + 1 :])
            found = tirx.if_then_else(i[at] < end, part, found)
            end = start
        return found

    return te.compute(shape, element, name=name)


@instruction
def reshape(x: Tensor, *, shape: tuple[int, ...], name: str) -> Tensor:
    source = shape_of(x)

    def element(*i: Any) -> Any:
        flat: Any = 0
        for index, extent in zip(i, shape):
            flat = flat * extent + index
        index = []
        for extent in reversed(source):
            index.append(flat % extent)
            flat = flat // extent
        return x(*reversed(index))

    return te.compute(shape, element, name=name)


@instruction
def transpose(x: Tensor, *, axes: tuple[int, ...], name: str) -> Tensor:
    source = shape_of(x)
    places = [axes.index(axis) for axis in range(len(axes))]
    return te.compute(
        tuple(source[axis] for axis in axes),
        lambda *i: x(*(i[place] for place in places)),
        name=name,
    )


@instruction
def matmul(a: Tensor, b: Tensor, *, name: str) -> Tensor:
    k = te.reduce_axis((0, shape_of(a)[-1]), name="ci")
    batch = shape_of(a)[:-2] or shape_of(b)[:-2]

    def element(*i: Any) -> Any:
        left = a(*(i[:-2] if len(a.shape) > 2 else ()), i[-2], k)
        right = b(*(i[:-2] if len(b.shape) > 2 else ()), k, i[-1])
        return te.sum(left * right, axis=[k])

    return te.compute((*batch, shape_of(a)[-2], shape_of(b)[-1]), element, name=name)


def padded(x: Tensor, padding: Padding, extent: tuple[int, int], fill: Any) -> Tensor:
    """``x`` on a grid of ``extent`` from ``padding`` before it on, ``fill`` outside.

    The stage is named ``pad``, or ``copy`` where nothing is outside.
    """
    n, c, h, w = shape_of(x)
    top, _, left, _ = padding

    def at(b: Any, o: Any, row: Any, column: Any) -> Any:
        i, j = row - top, column - left
        inside = tirx.all(i >= 0, i < h, j >= 0, j < w)
        return tirx.if_then_else(inside, x(b, o, i, j), fill)

    starts, sizes = (top, left), (h, w)
    if any(s >= e or -s >= n for s, e, n in zip(starts, extent, sizes)):
        # Nothing is inside, and TVM finds no region to read.
        return te.compute((n, c, *extent), lambda *_: fill, name="pad")
    whole = (
        padding[0] <= 0
        and padding[2] <= 0
        and extent[0] <= h + padding[0]
        and extent[1] <= w + padding[2]
    )
    return te.compute((n, c, *extent), at, name="copy" if whole else "pad")


def by_phase(x: Tensor, phases: int) -> Tensor:
    """``[N, C, H, phases, W / phases]``: column c at ``[c % phases, c // phases]``.

    A window that moves by ``phases`` then reads neighbours.
    """
    n, c, h, w = shape_of(x)
    return te.compute(
        (n, c, h, phases, w // phases),
        lambda b, o, i, phase, j: x(b, o, i, j * phases + phase),
        name="phases",
    )


@instruction
def cross_correlation(
    x: Tensor,
    w: Tensor,
    *,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    padding: Padding,
    name: str,
) -> Tensor:
    n, _, height, width = shape_of(x)
    outputs, per_group, taps_h, taps_w = shape_of(w)
    extent = (height + padding[0] + padding[1], width + padding[2] + padding[3])
    rows = (extent[0] - dilation[0] * (taps_h - 1) - 1) // stride[0] + 1
    columns = (extent[1] - dilation[1] * (taps_w - 1) - 1) // stride[1] + 1
    grid = padded(x, padding, extent, const(0, x))
    kh = te.reduce_axis((0, taps_h), name="kh")
    kw = te.reduce_axis((0, taps_w), name="kw")
    per = outputs // groups
    return te.compute(
        (n, outputs, per_group, rows, columns),
        lambda b, o, c, i, j: te.sum(
            grid(
                b,
                o // per * per_group + c,
                i * stride[0] + kh * dilation[0],
                j * stride[1] + kw * dilation[1],
            )
            * w(o, c, kh, kw),
            axis=[kh, kw],
        ),
        name=name,
    )


def _pool(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    combine: Callable[..., Any],
    fill: Any,
    name: str,
) -> Tensor:
    n, c, height, width = shape_of(x)
    extent = (height + padding[0] + padding[1], width + padding[2] + padding[3])
    rows, columns = ((extent[d] - kernel[d]) // stride[d] + 1 for d in (0, 1))
    grid = padded(x, padding, extent, fill)
    kh = te.reduce_axis((0, kernel[0]), name="kh")
    kw = te.reduce_axis((0, kernel[1]), name="kw")
    return te.compute(
        (n, c, rows, columns),
        lambda b, o, i, j: combine(
            grid(b, o, i * stride[0] + kh, j * stride[1] + kw), axis=[kh, kw]
        ),
        name=name,
    )


@instruction
def max_pool(
    x: Tensor,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    name: str,
) -> Tensor:
    low = te.min_value(x.dtype)
    return _pool(x, kernel, stride, padding, extremes.largest_number, low, name)


def window_average(
    total: Tensor,
    x: Tensor,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    include_pad: bool,
    name: str,
) -> Tensor:
    """Sums of windows divided by the number of elements, or of those inside ``x``."""
    shape = shape_of(total)
    inside = include_pad or padding == (0, 0, 0, 0)
    if inside:
        share = const(1.0 / (kernel[0] * kernel[1]), total)
        return te.compute(shape, lambda *i: total(*i) * share, name=name)

    def count(index: Any, d: int) -> Any:
        start = index * stride[d] - padding[2 * d]
        end = tirx.min(start + kernel[d], shape_of(x)[2 + d])
        return end - tirx.max(start, 0)

    return te.compute(
        shape,
        lambda b, o, i, j: (
            total(b, o, i, j) / tirx.Cast(total.dtype, count(i, 0) * count(j, 1))
        ),
        name=name,
    )


@instruction
def avg_pool(
    x: Tensor,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    include_pad: bool,
    name: str,
) -> Tensor:
    total = _pool(x, kernel, stride, padding, te.sum, const(0, x), f"{name}_sum")
    return window_average(
        total,
        x,
        kernel=kernel,
        stride=stride,
        padding=padding,
        include_pad=include_pad,
        name=name,
    )


@instruction
def tile(x: Tensor, *, name: str, **_: int) -> Tensor:
    return pointwise(name, lambda v: v, x)


@instruction
def unroll(x: Tensor, *, name: str, **_: int) -> Tensor:
    return pointwise(name, lambda v: v, x)
