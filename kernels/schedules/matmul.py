"""Matrix product: columns vectorised, the right operand packed in blocks of columns."""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import s_tir, te, tirx

from gos_fx.ir.types import AXES
from gos_fx.kernels.schedule_rule import (
    Job,
    Operands,
    Packing,
    Scheduled,
    schedule_rule,
)
from gos_fx.kernels.schedules.register_tile import (
    TilePlan,
    apply,
    base_name,
    blocks_of,
    epilogue,
    machine_facts,
)
from gos_fx.kernels.te_instructions import const, shape_of
from gos_fx.kernels.tiles import concrete, extents


@schedule_rule(lambda kernel, types: kernel.anchor.opcode == "matmul")
def matrix_product(job: Job) -> Scheduled:
    """``acc[.., i, j, rows, columns]``: block indices, then the inner tile."""
    anchor, rest = job.kernel.anchor, job.kernel.nodes[1:]
    names = AXES[anchor.type.rank]
    tile = dict.fromkeys(names, 1) | {n: job.tile[n] for n in names[-2:]}
    rows, columns = tile[names[-2]], tile[names[-1]]
    operands = Operands(job)
    left = operands[anchor.operands[0]]
    shape = concrete(anchor.type)
    packing = None
    if job.types[anchor.operands[1]].role != "map":
        source = Operands(job)
        packed = pack_columns(source[anchor.operands[1]], columns, "packed")
        function = te.create_prim_func([*source.placeholders.values(), packed])
        packing = Packing(
            function, tuple(source.placeholders), shape_of(packed), packed.dtype
        )
        right = te.placeholder(packing.shape, packing.dtype, "packed")
    else:
        right = pack_columns(operands[anchor.operands[1]], columns, "copy")
    whole = blocks_of(shape[-2], rows) * rows
    if whole > shape[-2]:
        left = _longer(left, whole)
    acc = _accumulate(left, right, shape, rows, columns)

    def gather(*i: Any) -> Any:
        r, c = i[-2:]
        return acc(*i[:-2], r // rows, c // columns, r % rows, c % columns)

    base = te.compute(shape, gather, name=base_name(job, rest))
    output = epilogue(job, operands, base, rest)
    inputs = operands.placeholders
    weights = [] if packing is None else [right]
    function = te.create_prim_func([*inputs.values(), *weights, output])
    sizes = extents(job.kernel, job.types)
    plan = TilePlan(
        loops=job.layout(job.kernel.output).stored(names),
        inner=tile,
        order=(*names[:-2], names[-1], names[-2]),
        vector=names[-1],
        reductions=("ci",),
        unroll=job.unroll,
        work=prod(sizes.values()),
        **machine_facts(job),
    )
    sch = s_tir.Schedule(function)
    apply(sch, plan)
    packings = () if packing is None else (packing,)
    return Scheduled(sch.mod["main"], (*inputs, *packings))


def pack_columns(b: te.Tensor, columns: int, name: str) -> te.Tensor:
    """``[.., column blocks, k, columns]``, zeros in the tail."""
    *batch, k, j = shape_of(b)

    def element(*i: Any) -> Any:
        column = i[-3] * columns + i[-1]
        value = b(*i[:-3], i[-2], column)
        return tirx.if_then_else(column < j, value, const(0, b))

    return te.compute((*batch, blocks_of(j, columns), k, columns), element, name=name)


def _longer(a: te.Tensor, rows: int) -> te.Tensor:
    """``a`` with rows of zeros at the end, so that the last tile is whole."""
    *batch, have, k = shape_of(a)
    return te.compute(
        (*batch, rows, k),
        lambda *i: tirx.if_then_else(i[-2] < have, a(*i), const(0, a)),
        name="pad_rows",
    )


def _accumulate(
    a: te.Tensor, b: te.Tensor, shape: tuple[int, ...], rows: int, columns: int
) -> te.Tensor:
    batch = shape[:-2]
    k = te.reduce_axis((0, shape_of(a)[-1]), name="ci")

    def element(*i: Any) -> Any:
        *outer, ib, jb, r, c = i
        left = a(*(outer if len(a.shape) > 2 else ()), ib * rows + r, k)
        right = b(*(outer if len(b.shape) > 3 else ()), jb, k, c)
        return te.sum(left * right, axis=[k])

    blocks = (blocks_of(shape[-2], rows), blocks_of(shape[-1], columns))
    return te.compute((*batch, *blocks, rows, columns), element, name="acc")
