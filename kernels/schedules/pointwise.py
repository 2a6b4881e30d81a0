"""Kernels without sums: element-wise chains, data that moves, concatenation.

Vectorised along the axis that is contiguous in the result, the rest of it in smaller
vectors; where all operands lie as the result does, the axes are one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

from tvm import te, tirx
from tvm.tirx import BufferStore, DeclBuffer, ForKind

from gos_fx.ir.fusion import is_elementwise
from gos_fx.ir.types import Type, axis_index
from gos_fx.kernels.layout import Seen
from gos_fx.kernels.schedule_rule import (
    Job,
    Operands,
    Scheduled,
    result_name,
    stored_output,
)
from gos_fx.kernels.schedules.element import Element, element_of, traced
from gos_fx.kernels.schedules.loops import const, loop, over, sequence, written
from gos_fx.kernels.te_instructions import TE_INSTRUCTIONS
from gos_fx.kernels.tiles import concrete, lanes

# Starting the threads costs as much as about this many element operations.
PARALLEL_WORK = 1 << 14
# Vectors side by side, which hide the latency of arithmetic.
VECTORS = 4


@dataclass(frozen=True)
class Grid:
    """The elements of a result in the order of memory.

    Attributes:
        shape: of the result.
        widest: elements of a vector.
    """

    shape: tuple[int, ...]
    widest: int

    def statements(self, store: Callable[[Sequence[Any]], Any]) -> list[Any]:
        """``store(index)`` for all elements, in parallel where there is work for it."""
        kind = ForKind.SERIAL
        if prod(self.shape) >= PARALLEL_WORK:
            kind = ForKind.PARALLEL
        if not self.shape:
            return [store(())]
        *outer, inner = self.shape

        def row(index: Sequence[Any], kind: ForKind = ForKind.SERIAL) -> list[Any]:
            def element(start: Any, lane: Any) -> list[Any]:
                return [store((*index, start + lane))]

            return over(inner, self.widest, element, kind)

        if prod(outer) == 1:
            return row([const(0)] * len(outer), kind)
        return [loop("p", 0, prod(outer), lambda p: row(unraveled(p, outer)), kind)]


def unraveled(flat: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """Indices of the element at a place in memory."""
    found: list[Any] = []
    for extent in reversed(shape[1:]):
        found.insert(0, tirx.floormod(flat, const(extent)))
        flat = tirx.floordiv(flat, const(extent))
    return (flat, *found) if shape else ()


def is_pointwise(result: te.Tensor) -> bool:
    """Whether nothing is summed on the way to a stage."""
    op = result.op
    if not isinstance(op, te.ComputeOp):
        return True
    return not op.reduce_axis and all(is_pointwise(x) for x in op.input_tensors)


def chain(job: Job) -> tuple[Operands, te.Tensor]:
    """The stages of a kernel's nodes; the last one has its axes in order of memory."""
    operands = Operands(job)
    values: dict[str, te.Tensor] = {}
    last = job.kernel.nodes[-1]
    for node in job.kernel.nodes:
        arguments = [values[o] if o in values else operands[o] for o in node.operands]
        name = result_name(job) if node is last else f"v_{node.name}"
        values[node.name] = TE_INSTRUCTIONS[node.opcode](
            *arguments, name=name, **dict(node.attributes)
        )
    return operands, stored_output(job, values[last.name])


def pointwise(job: Job) -> Scheduled:
    """Any stages that sum nothing."""
    if _is_flat(job):
        return _flat(job)
    operands, output = chain(job)
    buffers, body = _all_elements(job, operands, output)
    return Scheduled(written(buffers, body), tuple(operands.placeholders))


def _all_elements(
    job: Job, operands: Operands, output: te.Tensor
) -> tuple[tuple[Any, ...], Any]:
    buffers, (expression,) = traced(operands, [], [output])
    grid = Grid(tuple(int(extent) for extent in output.shape), _widest(job))

    def store(index: Sequence[Any]) -> Any:
        return BufferStore(buffers[-1], expression.at(*index), list(index))

    return buffers, sequence(grid.statements(store))


def _flat(job: Job) -> Scheduled:
    """The same with all axes as one, in the same memory."""
    size = prod(concrete(job.kernel.nodes[-1].type))
    types = {name: Type(of.role, (size,), of.dtype) for name, of in job.types.items()}
    nodes = tuple(
        replace(n, type=Type(n.type.role, (size,), n.type.dtype))
        for n in job.kernel.nodes
    )
    kernel = replace(job.kernel, anchor=nodes[0], nodes=nodes)
    operands, output = chain(replace(job, kernel=kernel, types=types, layouts={}))
    flat, body = _all_elements(job, operands, output)
    shape = job.layout(job.kernel.output).stored(concrete(job.kernel.nodes[-1].type))
    given = [tirx.decl_buffer(shape, buffer.dtype, buffer.name) for buffer in flat]
    aliases = [DeclBuffer(x, data=y.data) for x, y in zip(flat, given)]
    function = written(given, sequence([*aliases, body]))
    return Scheduled(function, tuple(operands.placeholders))


def _is_flat(job: Job) -> bool:
    """Whether all operands lie as the result does and nothing moves."""
    of, layout = job.kernel.nodes[-1].type, job.layout(job.kernel.output)
    return all(is_elementwise(node) for node in job.kernel.nodes) and all(
        job.layout(name) == layout and concrete(job.types[name]) == concrete(of)
        for name in job.kernel.inputs
    )


def _widest(job: Job) -> int:
    """Several vectors side by side; one where elements are gathered one by one; none
    for a number, nor for weights, which are computed once, at compile time."""
    of = job.kernel.nodes[-1].type
    if of.role != "map" or not of.shape:
        return 1
    end = job.layout(job.kernel.output).order[-1]
    is_straight = all(is_elementwise(node) for node in job.kernel.nodes) and all(
        not isinstance(job.layout(name), Seen) and job.layout(name).order[-1] == end
        for name in job.kernel.inputs
        if job.types[name].rank == len(job.layout(job.kernel.output).order)
    )
    return (VECTORS if is_straight else 1) * lanes(job.machine)


def concatenation(job: Job) -> Scheduled:
    """Each operand is copied to its place; pixel by pixel along the contiguous axis."""
    anchor = job.kernel.anchor
    operands = Operands(job)
    layout = job.layout(job.kernel.output)
    axis = layout.order.index(axis_index(anchor.attr("axis"), anchor.type.rank))

    def read(number: int, name: str) -> te.Tensor:
        x, shape = operands[name], layout.stored(concrete(job.types[name]))
        return te.compute(
            shape, lambda *i: x(*layout.logical(i)), name=f"read_{number}"
        )

    reads = [read(i, name) for i, name in enumerate(anchor.operands)]
    element = element_of(job, operands, job.kernel.nodes[1:], *reads)
    shape = layout.stored(concrete(anchor.type))
    widest = VECTORS * lanes(job.machine)
    out = element.buffers[-1]
    body: list[Any] = []
    rows: list[Callable[[Sequence[Any]], list[Any]]] = []
    begin = 0
    for part_of, name in zip(element.reads, anchor.operands):
        part = layout.stored(concrete(job.types[name]))
        copy = _Copy(element, part_of, out, axis, begin)
        begin += part[axis]
        if axis < len(shape) - 1:
            body += Grid(part, widest).statements(copy.store)
        else:
            rows.append(partial(copy.row, extent=part[-1], widest=widest))
    if rows:
        outer = shape[:-1]
        kind = ForKind.PARALLEL if prod(shape) >= PARALLEL_WORK else ForKind.SERIAL

        def pixel(p: Any) -> list[Any]:
            index = unraveled(p, outer)
            return [statement for row in rows for statement in row(index)]

        body.append(loop("p", 0, prod(outer), pixel, kind))
    function = written(element.buffers, sequence(body))
    return Scheduled(function, tuple(operands.placeholders))


@dataclass(frozen=True)
class _Copy:
    """One operand of a concatenation, which begins at ``begin`` of an axis."""

    element: Element
    read: Any
    out: Any
    axis: int
    begin: int

    def store(self, index: Sequence[Any]) -> Any:
        to = list(index)
        to[self.axis] = to[self.axis] + const(self.begin)
        return BufferStore(self.out, self.element.value(to, self.read.at(*index)), to)

    def row(self, index: Sequence[Any], extent: int, widest: int) -> list[Any]:
        return over(
            extent,
            widest,
            lambda start, lane: [self.store((*index, start + lane))],
        )
