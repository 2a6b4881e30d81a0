"""Dense kernels: pixels times packed weights, summed in a block of registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tvm import s_tir, te, tirx

from gos_fx.kernels.dense_tiles import (
    DensePlan,
    DenseSizes,
    dense_plan,
    dense_sizes,
    has_microkernel,
)
from gos_fx.kernels.layout import Seen
from gos_fx.kernels.microkernels import STEPS
from gos_fx.kernels.schedule_rule import Job, Operands, Packing, Scheduled
from gos_fx.kernels.schedules.epilogue import base_name, blocks_of, epilogue
from gos_fx.kernels.schedules.flat import flattened, with_shapes
from gos_fx.kernels.schedules.register_block import schedule_dense
from gos_fx.kernels.te_instructions import const, shape_of
from gos_fx.kernels.tiles import REDUCTION_LOOPS, concrete

# An element of the weights: output channel, and which of the inputs, row and column.
Weight = Callable[[Any, Any, Any, Any], Any]
Weights = Callable[[Operands], Weight]


def dense(job: Job, weights: Weights, block: dict[str, int]) -> Scheduled:
    """A convolution of ``job.kernel``'s first node, which sums over all its inputs.

    ``acc[n, i, j, o, ho, wo, co]``: block indices, then the register block. With
    groups, the register block of ``co`` divides the channels of a group.

    Args:
        weights: gives, for the operands it reads, the element at (co, ci, kh, kw).
        block: the register block ``ho``, ``wo``, ``co``.
    """
    sizes = dense_sizes(job.kernel, job.types)
    if sizes.is_flat and sizes.rows > 1 and not _looks_elsewhere(job):
        return _in_one_row(job, weights, block)
    plan = dense_plan(sizes, block, job.machine)
    operands = Operands(job)
    anchor = job.kernel.anchor
    rest = job.kernel.nodes[2:]
    form = _Form(job, sizes, plan)
    packing = form.pack(weights)
    packed = te.placeholder(packing.shape, packing.dtype, "packed")
    x = form.grid(operands, anchor.operands[0])
    acc = form.sums(x, packed)

    def gather(b: Any, o: Any, row: Any, column: Any) -> Any:
        i, r = row // plan.ho, row % plan.ho
        j, s = column // plan.wo, column % plan.wo
        return acc(b, i, j, o // plan.co, r, s, o % plan.co)

    shape = concrete(job.kernel.nodes[1].type)
    base = te.compute(shape, gather, name=base_name(job, rest))
    output = epilogue(job, operands, base, rest)
    inputs = operands.placeholders
    function = te.create_prim_func([*inputs.values(), packed, output])
    sch = s_tir.Schedule(function)
    pixel = form.pixel_bytes(shape_of(x))
    schedule_dense(sch, job, plan, sizes, pixel if form.is_merged else None)
    return Scheduled(sch.mod["main"], (*inputs, packing))


def steers_reduction(job: Job) -> bool:
    """Whether the graph says how the sums are unrolled."""
    return any(loop in REDUCTION_LOOPS for loop, _ in job.kernel.unroll)


def _looks_elsewhere(job: Job) -> bool:
    """Whether an operand is seen in the memory of a value of another shape."""
    return any(isinstance(job.layout(name), Seen) for name in job.kernel.inputs)


def _in_one_row(job: Job, weights: Weights, block: dict[str, int]) -> Scheduled:
    """A kernel of one, on images of one row."""
    made = dense(
        flattened(job), weights, {**block, "ho": 1, "wo": block["ho"] * block["wo"]}
    )
    values = [a for a in made.arguments if isinstance(a, str)]
    shapes = [job.layout(v).stored(concrete(job.types[v])) for v in values]
    shapes += [a.shape for a in made.arguments if isinstance(a, Packing)]
    output = job.kernel.output
    shapes.append(job.layout(output).stored(concrete(job.types[output])))
    return replace(made, function=with_shapes(made.function, shapes))


@dataclass(frozen=True)
class _Form:
    """The stages of one dense kernel.

    The taps of a row and the input channels lie side by side in the input, so they can
    be one loop, which a microkernel takes. It takes a few steps at least; where there
    are less, weights of zero follow, and the grid has room for what they are read with.
    """

    job: Job
    sizes: DenseSizes
    plan: DensePlan

    @property
    def is_merged(self) -> bool:
        dilation = self.job.kernel.anchor.attrs.get("dilation", (1, 1))
        return (
            has_microkernel(self.plan, self.job.machine)
            and not steers_reduction(self.job)
            and self.sizes.groups == 1
            and (dilation[1] == 1 or self.sizes.taps[1] == 1)
        )

    @property
    def run(self) -> int:
        """Steps of the merged loop."""
        return max(STEPS, self.sizes.inputs * self.sizes.taps[1])

    def pack(self, weights: Weights) -> Packing:
        """``[co blocks, kh, kw, ci, co]``, or ``[co blocks, kh, run, co]``."""
        sizes, co = self.sizes, self.plan.co
        operands = Operands(self.job)
        weight = weights(operands)
        zero = tirx.const(0, "float32")

        def at(o: Any, i: Any, j: Any, c: Any, v: Any) -> Any:
            source = o * co + v
            inside = tirx.all(source < sizes.outputs, j < sizes.taps[1])
            return tirx.if_then_else(inside, weight(source, c, i, j), zero)

        count = blocks_of(sizes.outputs, co)
        if self.is_merged:
            shape: tuple[int, ...] = (count, sizes.taps[0], self.run, co)
            packed = te.compute(
                shape,
                lambda o, i, k, v: at(o, i, k // sizes.inputs, k % sizes.inputs, v),
                name="packed",
            )
        else:
            shape = (count, *sizes.taps, sizes.inputs, co)
            packed = te.compute(shape, at, name="packed")
        function = te.create_prim_func([*operands.placeholders.values(), packed])
        return Packing(function, tuple(operands.placeholders), shape)

    def grid(self, operands: Operands, name: str) -> te.Tensor:
        """``[N, H, W, C]`` that whole blocks read: the input itself where it can be."""
        job, plan, sizes = self.job, self.plan, self.sizes
        attributes = job.kernel.anchor.attrs
        layout = job.layout(name)
        n, channels, height, width = concrete(job.types[name])
        stride, taps = sizes.stride, sizes.taps
        dilation = attributes.get("dilation", (1, 1))
        top, _, left, _ = attributes.get("padding", (0, 0, 0, 0))
        rows = (plan.row_blocks * plan.ho - 1) * stride[0]
        rows += (taps[0] - 1) * dilation[0] + 1
        columns = (plan.column_blocks * plan.wo - 1) * stride[1]
        columns += (taps[1] - 1) * dilation[1] + 1
        if self.is_merged:
            behind = self.run - sizes.inputs * taps[1]
            columns += blocks_of(behind, channels)
        is_whole = (top, left) == (0, 0) and rows <= height and columns <= width
        if is_whole and not layout.is_plain and not isinstance(layout, Seen):
            return operands.stored(name)
        x = operands[name]

        def at(b: Any, i: Any, j: Any, c: Any) -> Any:
            row, column = i - top, j - left
            inside = tirx.all(row >= 0, row < height, column >= 0, column < width)
            return tirx.if_then_else(inside, x(b, c, row, column), const(0, x))

        return te.compute((n, rows, columns, channels), at, name="pad")

    def sums(self, x: te.Tensor, packed: te.Tensor) -> te.Tensor:
        plan, sizes = self.plan, self.sizes
        stride = sizes.stride
        dilation = self.job.kernel.anchor.attrs.get("dilation", (1, 1))
        n, _, _, channels = shape_of(x)
        blocks = shape_of(packed)[0]
        shape = (n, plan.row_blocks, plan.column_blocks, blocks)
        shape += (plan.ho, plan.wo, plan.co)
        kh = te.reduce_axis((0, sizes.taps[0]), name="kh")
        if self.is_merged:
            run = te.reduce_axis((0, self.run), name="ci")

            def merged(b: Any, i: Any, j: Any, o: Any, r: Any, s: Any, c: Any) -> Any:
                row = (i * plan.ho + r) * stride[0] + kh * dilation[0]
                column = (j * plan.wo + s) * stride[1] + run // channels
                pixel = x(b, row, column, run % channels)
                return te.sum(pixel * packed(o, kh, run, c), axis=[kh, run])

            return te.compute(shape, merged, name="acc")
        kw = te.reduce_axis((0, sizes.taps[1]), name="kw")
        ci = te.reduce_axis((0, sizes.inputs), name="ci")
        per_group = blocks // sizes.groups

        def element(b: Any, i: Any, j: Any, o: Any, r: Any, s: Any, c: Any) -> Any:
            channel = ci + (o // per_group * sizes.inputs if sizes.groups > 1 else 0)
            row = (i * plan.ho + r) * stride[0] + kh * dilation[0]
            column = (j * plan.wo + s) * stride[1] + kw * dilation[1]
            pixel = x(b, row, column, channel)
            return te.sum(pixel * packed(o, kh, kw, ci, c), axis=[kh, kw, ci])

        return te.compute(shape, element, name="acc")

    def pixel_bytes(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Where the pixels of a register block begin in the grid."""
        _, _, columns, channels = grid
        return tuple(
            4
            * channels
            * (r * self.sizes.stride[0] * columns + s * self.sizes.stride[1])
            for r in range(self.plan.ho)
            for s in range(self.plan.wo)
        )
