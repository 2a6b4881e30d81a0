"""Dense convolution: channels vectorised, a block of pixels in registers.

With the channels of a pixel side by side, a convolution is a matrix product of pixels
and packed weights. A kernel of one that does not move takes the rows of an image as one
long row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm import s_tir, te, tirx

from gos_fx.kernels.dense_tiles import DensePlan, dense_plan, is_flat
from gos_fx.kernels.schedule_rule import (
    Job,
    Operands,
    Packing,
    Scheduled,
    schedule_rule,
)
from gos_fx.kernels.schedules.epilogue import base_name, blocks_of, epilogue
from gos_fx.kernels.schedules.flat import flattened, with_shapes
from gos_fx.kernels.schedules.register_block import schedule_dense
from gos_fx.kernels.te_instructions import const, shape_of
from gos_fx.kernels.tiles import concrete, is_dense


@schedule_rule(is_dense)
def dense_convolution(job: Job) -> Scheduled:
    """``acc[n, i, j, o, ho, wo, co]``: block indices, then the register block.

    With groups, the register block of ``co`` divides the channels of a group.
    """
    if is_flat(job.kernel, job.types):
        return _stretched(job)
    anchor, rest = job.kernel.anchor, job.kernel.nodes[2:]
    plan = dense_plan(job.kernel, job.types, job.tile, job.machine)
    operands = Operands(job)
    packing = pack_weights(job, plan.co)
    packed = te.placeholder(packing.shape, packing.dtype, "packed")
    acc = _Accumulator(job, operands, plan).tensor(packed)

    def gather(b: Any, o: Any, row: Any, column: Any) -> Any:
        i, r = row // plan.ho, row % plan.ho
        j, s = column // plan.wo, column % plan.wo
        return acc(b, i, j, o // plan.co, r, s, o % plan.co)

    base = te.compute(
        concrete(job.kernel.nodes[1].type), gather, name=base_name(job, rest)
    )
    output = epilogue(job, operands, base, rest)
    inputs = operands.placeholders
    function = te.create_prim_func([*inputs.values(), packed, output])
    sch = s_tir.Schedule(function)
    schedule_dense(sch, job, plan)
    return Scheduled(sch.mod["main"], (*inputs, packing))


def _stretched(job: Job) -> Scheduled:
    """A kernel of one, on an image of one row."""
    made = dense_convolution(flattened(job))
    values = [a for a in made.arguments if isinstance(a, str)]
    shapes = [job.layout(v).stored(concrete(job.types[v])) for v in values]
    shapes += [a.shape for a in made.arguments if isinstance(a, Packing)]
    output = job.kernel.output
    shapes.append(job.layout(output).stored(concrete(job.types[output])))
    return replace(made, function=with_shapes(made.function, shapes))


@dataclass(frozen=True)
class _Accumulator:
    """The sums of products, in register blocks."""

    job: Job
    operands: Operands
    plan: DensePlan

    def tensor(self, packed: te.Tensor) -> te.Tensor:
        plan, anchor = self.plan, self.job.kernel.anchor
        stride, dilation = anchor.attr("stride"), anchor.attr("dilation")
        blocks, taps_h, taps_w, per_group, _ = shape_of(packed)
        per_block = blocks // int(anchor.attr("groups"))
        x = self._grid((taps_h, taps_w))
        n, _, _, channels = shape_of(x)
        kh = te.reduce_axis((0, taps_h), name="kh")
        kw = te.reduce_axis((0, taps_w), name="kw")
        ci = te.reduce_axis((0, per_group), name="ci")

        def element(b: Any, i: Any, j: Any, o: Any, r: Any, s: Any, c: Any) -> Any:
            channel = ci if channels == per_group else o // per_block * per_group + ci
            row = (i * plan.ho + r) * stride[0] + kh * dilation[0]
            column = (j * plan.wo + s) * stride[1] + kw * dilation[1]
            pixel = x(b, row, column, channel)
            return te.sum(pixel * packed(o, kh, kw, ci, c), axis=[kh, kw, ci])

        shape = (n, plan.row_blocks, plan.column_blocks, blocks)
        return te.compute((*shape, plan.ho, plan.wo, plan.co), element, name="acc")

    def _grid(self, taps: tuple[int, int]) -> te.Tensor:
        """``[N, H, W, C]`` that whole blocks read: the input itself where it can be."""
        job, plan, anchor = self.job, self.plan, self.job.kernel.anchor
        name = anchor.operands[0]
        layout = job.layout(name)
        n, channels, height, width = concrete(job.types[name])
        stride, dilation = anchor.attr("stride"), anchor.attr("dilation")
        top, _, left, _ = anchor.attr("padding")
        rows = (plan.row_blocks * plan.ho - 1) * stride[0]
        rows += (taps[0] - 1) * dilation[0] + 1
        columns = (plan.column_blocks * plan.wo - 1) * stride[1]
        columns += (taps[1] - 1) * dilation[1] + 1
        is_whole = (top, left) == (0, 0) and rows <= height and columns <= width
        if is_whole and not layout.is_plain:
            return self.operands.stored(name)
        x = self.operands[name]

        def at(b: Any, i: Any, j: Any, c: Any) -> Any:
            row, column = i - top, j - left
            inside = tirx.all(row >= 0, row < height, column >= 0, column < width)
            return tirx.if_then_else(inside, x(b, c, row, column), const(0, x))

        return te.compute((n, rows, columns, channels), at, name="pad")


def pack_weights(job: Job, co: int) -> Packing:
    """``[co blocks, kh, kw, ci, co]``: zeros in the tail, aggregation applied.

    A mean, or a weighted mean, over input channels is a factor of the weights.
    """
    anchor, aggregation = job.kernel.nodes[:2]
    name = anchor.operands[1]
    weight = Operands(job)
    w = weight[name]
    outputs, per_group, taps_h, taps_w = shape_of(w)
    scaled = scale_weights(aggregation.opcode, w, aggregation.operands[1:], weight)

    def element(o: Any, i: Any, j: Any, c: Any, v: Any) -> Any:
        source = o * co + v
        value = scaled(source, c, i, j)
        return tirx.if_then_else(source < outputs, value, const(0, w))

    shape = (blocks_of(outputs, co), taps_h, taps_w, per_group, co)
    packed = te.compute(shape, element, name="packed")
    function = te.create_prim_func([*weight.placeholders.values(), packed])
    return Packing(function, tuple(weight.placeholders), shape, w.dtype)


def scale_weights(
    aggregation: str, w: te.Tensor, shares: tuple[str, ...], operands: Operands
) -> te.Tensor:
    """Weights times what their aggregation over ``ci`` multiplies each map with."""
    if aggregation == "sum":
        return w
    per_group = shape_of(w)[1]
    if aggregation == "mean":
        share = const(1.0 / per_group, w)
        return te.compute(shape_of(w), lambda *i: w(*i) * share, name="scaled")
    given = operands[shares[0]]
    k = te.reduce_axis((0, per_group), name="k")
    total = te.compute((1,), lambda _: te.sum(given(k), axis=[k]), name="total")
    return te.compute(
        shape_of(w), lambda *i: w(*i) * given(i[1]) / total(0), name="scaled"
    )
