"""Factorisations: one matrix after the other, in parallel where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tvm import te, tirx
from tvm.tirx import BufferStore, ForKind

from gos_fx.errors import Unsupported
from gos_fx.kernels.layout import Layout, results
from gos_fx.kernels.linear_algebra.code import FLOAT, Array, Code, real
from gos_fx.kernels.linear_algebra.scaling import is_bad
from gos_fx.kernels.linear_algebra.table import algorithm_of
from gos_fx.kernels.schedule_rule import Job, Operands, Scheduled, schedule_rule
from gos_fx.kernels.schedules.element import Expression, traced
from gos_fx.kernels.schedules.loops import const, written
from gos_fx.kernels.schedules.pointwise import PARALLEL_WORK, unraveled
from gos_fx.kernels.tiles import concrete


@schedule_rule(lambda kernel, types: algorithm_of(kernel.anchor) is not None)
def factorisation(job: Job) -> Scheduled:
    """The operand's last two axes are the matrix, those before them the batch.

    Raises:
        Unsupported: the matrices are not in single precision.
    """
    anchor = job.kernel.anchor
    algorithm = algorithm_of(anchor)
    assert algorithm is not None
    dtype = job.types[anchor.operands[0]].dtype
    if dtype != FLOAT:
        raise Unsupported(
            f"{anchor.opcode} of {dtype} has no kernel",
            where=anchor.name,
            do='put cast(v, dtype="float32") before it',
        )
    operands = Operands(job)
    source = operands[anchor.operands[0]]
    *batch, rows, columns = (int(extent) for extent in source.shape)
    read = te.compute(source.shape, lambda *i: source(*i), name="read")
    (given, _), (matrix,) = traced(operands, [], [read])
    outputs = results_of(job)
    work = prod(batch) * rows * columns * min(rows, columns)
    is_parallel = prod(batch) > 1 and work >= PARALLEL_WORK
    code = Code()
    kind = ForKind.PARALLEL if is_parallel else ForKind.SERIAL
    with code.loop(0, prod(batch), kind) as p:
        index = unraveled(p, batch)
        a = _copied(code, matrix, index, rows, columns)
        bad = is_bad(code, a)
        found = algorithm(code, a, bad)
        for result, output in zip(found, outputs, strict=True):
            _store(code, result, output, index, bad)
    function = written([given, *(buffer for buffer, _ in outputs)], code.body)
    return Scheduled(function, tuple(operands.placeholders))


def results_of(job: Job) -> list[tuple[Any, Layout]]:
    """The memory of each result of a kernel, and how it lies there."""
    layout = job.layouts.get(job.kernel.output)
    return [
        (tirx.decl_buffer(lies.stored(concrete(of)), of.dtype, f"out_{i}"), lies)
        for i, (of, lies) in enumerate(results(job.kernel.nodes[-1].type, layout))
    ]


def _copied(
    code: Code, matrix: Expression, index: Sequence[Any], rows: int, columns: int
) -> Array:
    a = code.array("a", rows, columns)
    with code.cells(a) as at:
        a[at] = matrix.at(*index, *at)
    return a


def _store(
    code: Code,
    result: Array,
    output: tuple[Any, Layout],
    batch: Sequence[Any],
    bad: Array,
) -> None:
    """One matrix, vector or number to its place; a bad one is not a number."""
    buffer, layout = output
    is_bad = code.keep("is_bad", tirx.NE(bad[()], const(0)))
    with code.cells(result) as at:
        value = tirx.Select(is_bad, real(float("nan")), result[at])
        code.do(BufferStore(buffer, value, list(layout.stored((*batch, *at)))))
