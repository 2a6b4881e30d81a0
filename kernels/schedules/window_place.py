"""Where a tile of windows lies, what it reads there, and what a kernel computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.tirx import BufferLoad, Ramp

from gos_fx.kernels.schedules.loops import bound, const
from gos_fx.kernels.window_axis import Axis


@dataclass(frozen=True)
class Window:
    """What a windowed kernel computes, in terms of the elements of memory.

    Attributes:
        x, out: buffers of input and result.
        weights: buffer ``[vectors, per_group, kh, kw, width]``; None for pools.
        kept: buffer ``[outputs of a tile, width]``, which LLVM makes registers of.
        gathered: buffer ``[width]`` for channels that do not lie side by side.
        pixel: index in memory of input (batch, channel, row, column).
        place: the same of the result.
        strides: elements from a row of the input to the next, and from a column.
        start: an accumulator without inputs.
        sums: inputs are added, else the greatest is taken.
        combine: of an accumulator and an input.
        result: of (index in memory, accumulator, taps inside of the image).
    """

    x: Any
    out: Any
    weights: Any
    kept: Any
    gathered: Any
    pixel: Callable[[Sequence[Any]], Sequence[Any]]
    place: Callable[[Sequence[Any]], Sequence[Any]]
    strides: tuple[int, int]
    start: Any
    sums: bool
    combine: Callable[[Any, Any], Any]
    result: Callable[[Sequence[Any], Any, Any], Any]


@dataclass(frozen=True)
class Place:
    """Where a tile lies: batch, block of rows and columns, vector, its first channel.

    ``at`` has the blocks that are known, which are those at the border.
    """

    n: Any
    row: Any
    column: Any
    vector: Any
    channel: Any
    at: tuple[int | None, int | None] = (None, None)

    def at_row(self, block: int) -> Place:
        return replace(self, row=const(block), at=(block, self.at[1]))

    def at_column(self, block: int) -> Place:
        return replace(self, column=const(block), at=(self.at[0], block))


# Index of an input, and the (output, tap) that read it.
Step = tuple[Any, list[tuple[int, Any]]]


def steps(axis: Axis, block: Any, at: int | None) -> list[Step]:
    """Inputs of a tile along an axis."""
    first = block * const(axis.block * axis.stride) - const(axis.before)
    return [
        (first + const(position), [(o, const(tap)) for o, tap in readers])
        for position, readers in axis.reads(at).items()
    ]


def clipped(axis: Axis, block: Any) -> tuple[Any, Any]:
    """The taps of a single output that lie inside."""
    first = block * const(axis.stride) - const(axis.before)
    step = const(axis.dilation)
    begin = tirx.max(tirx.floordiv(const(axis.dilation - 1) - first, step), const(0))
    last = tirx.floordiv(const(axis.inputs - 1) - first, step)
    end = tirx.min(last + const(1), const(axis.taps))
    return begin, tirx.max(begin, end)


class Weights:
    """Vectors of weights, each loaded once in the scope that this object stands for."""

    def __init__(self, window: Window, width: int, vector: Any) -> None:
        self._window, self._width, self._vector = window, width, vector
        self._bound: dict[tuple[Any, ...], Any] = {}

    def get(self, found: list[Any], ci: Any, kh: Any, kw: Any) -> Any:
        """The vector; its load is appended to ``found`` when it is new."""
        key = tuple(int(k) if isinstance(k, tirx.IntImm) else k for k in (ci, kh, kw))
        if key not in self._bound:
            lane = Ramp(0, 1, self._width) if self._width > 1 else const(0)
            load = BufferLoad(self._window.weights, [self._vector, ci, kh, kw, lane])
            self._bound[key] = bound(found, "w", load)
        return self._bound[key]


def single(axis: Axis, block: Any, tap: Any) -> list[Step]:
    """The one input of the one output of a tile at a tap."""
    first = block * const(axis.stride) - const(axis.before)
    return [(first + tap * const(axis.dilation), [(0, tap)])]
