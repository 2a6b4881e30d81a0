"""Aggregations over one axis, softmax and layer norm, row by row in vectors.

Along the contiguous axis a row is read once for each pass and stays in the first cache
between them; several vectors of accumulators hide the latency of additions and are
folded at the end. Over another axis the accumulators lie along the contiguous one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import te, tirx
from tvm.tirx import BufferStore, ForKind

from gos_fx.ir.graph import Node
from gos_fx.ir.types import axis_index
from gos_fx.kernels import extremes
from gos_fx.kernels.layout import Seen
from gos_fx.kernels.schedule_rule import Job, Operands, Scheduled
from gos_fx.kernels.schedules.element import Element, element_of
from gos_fx.kernels.schedules.loops import (
    by_lane,
    const,
    groups,
    loop,
    written,
)
from gos_fx.kernels.schedules.normalisation import layer_norm, softmax
from gos_fx.kernels.schedules.pointwise import PARALLEL_WORK, VECTORS, unraveled
from gos_fx.kernels.schedules.sums import Combine, Pick, Sums
from gos_fx.kernels.tiles import concrete, lanes

_COMBINE: dict[str, Combine] = {
    "sum": operator.add,
    "mean": operator.add,
    "max": extremes.maximum,
    "min": extremes.minimum,
}
_ROWS = ("softmax", "layer_norm")


def is_reduction(job: Job) -> bool:
    """Aggregations over an axis in single precision; softmax and layer norm over the
    axis that is contiguous in the result."""
    anchor = job.kernel.anchor
    if anchor.type.dtype != "float32":
        return False
    if anchor.opcode in _ROWS:
        return job.layout(job.kernel.output).order[-1] == _axis(job)
    is_one = len(anchor.operands) == 1 and anchor.type.rank > 0
    return anchor.opcode in _COMBINE and is_one and bool(anchor.attrs.get("axis"))


def _axis(job: Job) -> int:
    """The logical axis of the operand that is normalised, or that disappears."""
    anchor = job.kernel.anchor
    rank = job.types[anchor.operands[0]].rank
    if anchor.opcode == "layer_norm":
        return rank - 1
    return axis_index(anchor.attr("axis"), rank)


def reduction(job: Job) -> Scheduled:
    """A kernel that :func:`is_reduction` accepts."""
    anchor, at = job.kernel.anchor, _axis(job)
    operands = Operands(job)
    x, *gains = (operands[name] for name in anchor.operands)
    layout = job.layout(job.kernel.output)
    shape, extent = layout.stored(concrete(anchor.type)), int(x.shape[at])
    is_row = anchor.opcode in _ROWS
    keeps = is_row or bool(anchor.attrs.get("keep"))

    def element(*index: Any) -> Any:
        logical = list(layout.logical(index[:-1]))
        return x(*logical[:at], index[-1], *logical[at + keeps :])

    def gain_of(number: int, gain: te.Tensor) -> te.Tensor:
        return te.compute((extent,), lambda k: gain(k), name=f"gain_{number}")

    reads = [
        te.compute((*shape, extent), element, name="read"),
        *(gain_of(i, gain) for i, gain in enumerate(gains)),
    ]
    traced = element_of(job, operands, job.kernel.nodes[1:], *reads)
    widest = VECTORS * lanes(job.machine)
    rows = _Rows(anchor, traced, shape, extent, widest)
    if is_row:
        body = rows.normalised(anchor.opcode)
    elif _is_contiguous(job, anchor.operands[0], at):
        body = rows.folded(anchor.opcode)
    else:
        body = rows.beside(anchor.opcode)
    return Scheduled(written(traced.buffers, body), tuple(operands.placeholders))


def _is_contiguous(job: Job, name: str, axis: int) -> bool:
    layout = job.layout(name)
    return not isinstance(layout, Seen) and layout.order[-1] == axis


@dataclass(frozen=True)
class _Rows:
    """The loops of a kernel.

    Attributes:
        element: the epilogue; its reads are the operand, at an index of the result in
            memory and a place of the axis, and then the gains.
        shape: of the result in memory.
        extent: of the axis.
        widest: elements of accumulators side by side.
    """

    anchor: Node
    element: Element
    shape: tuple[int, ...]
    extent: int
    widest: int

    def normalised(self, opcode: str) -> Any:
        """Rows along the last axis of the result."""
        width = min(self.widest, 1 << (self.extent.bit_length() - 1))
        row = softmax if opcode == "softmax" else layer_norm

        def one(index: Sequence[Any]) -> list[Any]:
            sums = Sums.of(width)
            return [sums.allocated, *row(self, [*index], sums)]

        return self._parallel(self.shape[:-1], one)

    def folded(self, opcode: str) -> Any:
        """Each result from a row along the contiguous axis."""
        width = min(self.widest, 1 << (self.extent.bit_length() - 1))

        def one(index: Sequence[Any]) -> list[Any]:
            sums = Sums.of(width)
            found = [sums.allocated]
            found += sums.over(
                self.extent, _COMBINE[opcode], _start(opcode), self._read(index)
            )
            return [*found, self._store(index, opcode, sums.at(const(0)))]

        return self._parallel(self.shape, one)

    def beside(self, opcode: str) -> Any:
        """Results side by side along the last axis of the result."""
        *outer, inner = self.shape

        def one(index: Sequence[Any]) -> list[Any]:
            sums = Sums.of(self.widest)

            def vector(start: Any, width: int) -> list[Any]:
                def turn(k: Any) -> list[Any]:
                    def add(lane: Any) -> list[Any]:
                        value = self.element.reads[0].at(*index, start + lane, k)
                        return [sums.keep(lane, _COMBINE[opcode](sums.at(lane), value))]

                    return [by_lane(width, add)]

                def store(lane: Any) -> list[Any]:
                    at = (*index, start + lane)
                    return [self._store(at, opcode, sums.at(lane))]

                begin = tirx.const(_start(opcode), "float32")
                return [
                    by_lane(width, lambda lane: [sums.keep(lane, begin)]),
                    loop("k", 0, self.extent, turn),
                    by_lane(width, store),
                ]

            return [sums.allocated, *groups(inner, self.widest, vector)]

        return self._parallel(outer, one)

    def put(self, index: Sequence[Any], value: Any) -> Any:
        """The epilogue of a value."""
        out = self.element.buffers[-1]
        return BufferStore(out, self.element.value(index, value), list(index))

    def _store(self, index: Sequence[Any], opcode: str, value: Any) -> Any:
        if opcode == "mean":
            value = value * tirx.const(1.0 / self.extent, "float32")
        return self.put(index, value)

    def _read(self, index: Sequence[Any]) -> Pick:
        return lambda k: self.element.reads[0].at(*index, k)

    def _parallel(
        self, outer: Sequence[int], one: Callable[[Sequence[Any]], list[Any]]
    ) -> Any:
        kind = ForKind.SERIAL
        if prod(self.shape[: len(outer)]) > 1 and self._work >= PARALLEL_WORK:
            kind = ForKind.PARALLEL
        return loop("p", 0, prod(outer), lambda p: one(unraveled(p, outer)), kind)

    @property
    def _work(self) -> int:
        keeps = self.anchor.opcode in _ROWS
        return prod(self.shape) * (1 if keeps else self.extent)


def _start(opcode: str) -> float:
    """What accumulators begin with."""
    limits = {"max": float("-inf"), "min": float("inf")}
    return limits.get(opcode, 0.0)
