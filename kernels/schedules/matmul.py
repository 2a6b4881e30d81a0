"""Matrix product: the rows are the pixels of a dense kernel, the columns its channels.

A right operand of weights is packed at compile time, a map when the kernel runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import s_tir, te, tirx

from gos_fx.kernels.dense_tiles import (
    DensePlan,
    DenseSizes,
    dense_plan,
    dense_sizes,
    has_microkernel,
)
from gos_fx.kernels.microkernels import STEPS
from gos_fx.kernels.schedule_rule import (
    Job,
    Operands,
    Packing,
    Scheduled,
    schedule_rule,
)
from gos_fx.kernels.schedules.dense import steers_reduction
from gos_fx.kernels.schedules.epilogue import base_name, blocks_of, epilogue
from gos_fx.kernels.schedules.register_block import schedule_dense
from gos_fx.kernels.te_instructions import const, shape_of
from gos_fx.kernels.tiles import concrete


@schedule_rule(lambda kernel, types: kernel.anchor.opcode == "matmul")
def matrix_product(job: Job) -> Scheduled:
    """``acc[.., 1, j, o, 1, rows, columns]``: indices of blocks, then the register
    block."""
    anchor, rest = job.kernel.anchor, job.kernel.nodes[1:]
    names = tuple(job.tile)[-2:]
    block = {"ho": 1, "wo": job.tile[names[0]], "co": job.tile[names[1]]}
    sizes = dense_sizes(job.kernel, job.types)
    form = _Form(job, sizes, dense_plan(sizes, block, job.machine))
    plan = form.plan
    operands = Operands(job)
    left = form.rows(operands)
    packing = form.packing()
    if packing is None:
        right = form.columns(operands[anchor.operands[1]], "copy")
    else:
        right = te.placeholder(packing.shape, packing.dtype, "packed")
    acc = form.sums(left, right)

    def gather(*i: Any) -> Any:
        row, column = i[-2:]
        j, s = row // plan.wo, row % plan.wo
        o, c = column // plan.co, column % plan.co
        return acc(*i[:-2], 0, j, o, 0, s, c)

    base = te.compute(concrete(anchor.type), gather, name=base_name(job, rest))
    output = epilogue(job, operands, base, rest)
    inputs = operands.placeholders
    weights = [] if packing is None else [right]
    function = te.create_prim_func([*inputs.values(), *weights, output])
    sch = s_tir.Schedule(function)
    pixels = tuple(4 * shape_of(left)[-1] * s for s in range(plan.wo))
    schedule_dense(sch, job, plan, sizes, pixels if form.is_merged else None)
    packings = () if packing is None else (packing,)
    return Scheduled(sch.mod["main"], (*inputs, *packings))


@dataclass(frozen=True)
class _Form:
    """The stages of one product; a microkernel takes a few steps at least."""

    job: Job
    sizes: DenseSizes
    plan: DensePlan

    @property
    def is_merged(self) -> bool:
        can = has_microkernel(self.plan, self.job.machine)
        return can and not steers_reduction(self.job)

    @property
    def steps(self) -> int:
        steps = self.sizes.inputs
        return max(STEPS, steps) if self.is_merged else steps

    def rows(self, operands: Operands) -> te.Tensor:
        """The left operand, with as many rows and steps as whole blocks read."""
        name = self.job.kernel.anchor.operands[0]
        a = operands[name]
        *batch, have, steps = shape_of(a)
        whole = self.plan.column_blocks * self.plan.wo
        if self.job.layout(name).is_plain and (whole, self.steps) == (have, steps):
            return a

        def at(*i: Any) -> Any:
            inside = tirx.all(i[-2] < have, i[-1] < steps)
            return tirx.if_then_else(inside, a(*i), const(0, a))

        return te.compute((*batch, whole, self.steps), at, name="pad")

    def packing(self) -> Packing | None:
        """The right operand as weights; None where it is a map."""
        name = self.job.kernel.anchor.operands[1]
        if self.job.types[name].role == "map":
            return None
        operands = Operands(self.job)
        packed = self.columns(operands[name], "packed")
        function = te.create_prim_func([*operands.placeholders.values(), packed])
        shape = shape_of(packed)
        return Packing(function, tuple(operands.placeholders), shape, packed.dtype)

    def columns(self, b: te.Tensor, name: str) -> te.Tensor:
        """``[.., column blocks, k, columns]``, zeros in the tails."""
        *batch, steps, columns = shape_of(b)
        width = self.plan.co

        def at(*i: Any) -> Any:
            column = i[-3] * width + i[-1]
            inside = tirx.all(column < columns, i[-2] < steps)
            return tirx.if_then_else(inside, b(*i[:-3], i[-2], column), const(0, b))

        shape = (*batch, blocks_of(columns, width), self.steps, width)
        return te.compute(shape, at, name=name)

    def sums(self, a: te.Tensor, b: te.Tensor) -> te.Tensor:
        plan = self.plan
        batch = concrete(self.job.kernel.anchor.type)[:-2]
        one = te.reduce_axis((0, 1), name="kh")
        k = te.reduce_axis((0, self.steps), name="ci")

        def element(*i: Any) -> Any:
            *outer, _, j, o, _, s, c = i
            left = a(*(outer if len(a.shape) > 2 else ()), j * plan.wo + s, k + one)
            right = b(*(outer if len(b.shape) > 3 else ()), o, k, c)
            return te.sum(left * right, axis=[one, k])

        blocks = (1, plan.column_blocks, blocks_of(self.sizes.outputs, plan.co))
        return te.compute((*batch, *blocks, 1, plan.wo, plan.co), element, name="acc")
