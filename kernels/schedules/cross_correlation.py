"""Dense convolution: output channels vectorised, weights packed beforehand."""

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
from gos_fx.kernels.te_instructions import const, padded, shape_of
from gos_fx.kernels.tiles import concrete, extents, is_dense, outputs_first


@schedule_rule(is_dense)
def dense_convolution(job: Job) -> Scheduled:
    """``acc[n, o, i, j, ho, wo, co]``: block indices, then the inner tile.

    With groups, the inner tile of ``co`` divides the channels of a group.
    """
    anchor, rest = job.kernel.anchor, job.kernel.nodes[2:]
    sizes = extents(job.kernel, job.types)
    groups = int(anchor.attr("groups"))
    tile = {**job.tile, "n": 1}
    operands = Operands(job)
    packing = pack_weights(job, tile["co"])
    packed = te.placeholder(packing.shape, packing.dtype, "packed")
    acc = _accumulate(job, operands[anchor.operands[0]], packed, tile, groups)
    co, ho, wo = (tile[name] for name in ("co", "ho", "wo"))

    def gather(b: Any, o: Any, i: Any, j: Any) -> Any:
        return acc(b, o // co, i // ho, j // wo, i % ho, j % wo, o % co)

    base = te.compute(
        concrete(anchor.type)[:2] + concrete(anchor.type)[3:],
        gather,
        name=base_name(job, rest),
    )
    output = epilogue(job, operands, base, rest)
    inputs = operands.placeholders
    function = te.create_prim_func([*inputs.values(), packed, output])
    order = ("n", "co", "ho", "wo")
    if not outputs_first(job.kernel, job.types, tile, job.machine):
        order = ("n", "ho", "co", "wo")
    plan = TilePlan(
        loops=job.layout(job.kernel.output).stored(AXES[4]),
        inner=tile,
        order=order,
        vector="co",
        reductions=("ci", "kh", "kw"),
        unroll=job.unroll,
        work=prod(sizes.values()),
        **machine_facts(job),
    )
    sch = s_tir.Schedule(function)
    apply(sch, plan)
    return Scheduled(sch.mod["main"], (*inputs, packing))


def _accumulate(
    job: Job, x: te.Tensor, packed: te.Tensor, tile: dict[str, int], groups: int
) -> te.Tensor:
    attrs = job.kernel.anchor.attrs
    stride, dilation, padding = attrs["stride"], attrs["dilation"], attrs["padding"]
    blocks, per_group, taps_h, taps_w, _ = shape_of(packed)
    n, _, height, width = shape_of(x)
    rows, columns = concrete(job.kernel.anchor.type)[-2:]
    bh, bw = blocks_of(rows, tile["ho"]), blocks_of(columns, tile["wo"])
    # The grid that whole tiles read; without padding and tails it is the input itself.
    grid = (
        (bh * tile["ho"] - 1) * stride[0] + (taps_h - 1) * dilation[0] + 1,
        (bw * tile["wo"] - 1) * stride[1] + (taps_w - 1) * dilation[1] + 1,
    )
    if padding[0] or padding[2] or grid[0] > height or grid[1] > width:
        x = padded(x, padding, grid, const(0, x))
    ci = te.reduce_axis((0, per_group), name="ci")
    kh = te.reduce_axis((0, taps_h), name="kh")
    kw = te.reduce_axis((0, taps_w), name="kw")
    ho, wo = tile["ho"], tile["wo"]

    def element(b: Any, o: Any, i: Any, j: Any, r: Any, s: Any, c: Any) -> Any:
        pixel = x(
            b,
            o // (blocks // groups) * per_group + ci if groups > 1 else ci,
            (i * ho + r) * stride[0] + kh * dilation[0],
            (j * wo + s) * stride[1] + kw * dilation[1],
        )
        return te.sum(pixel * packed(o, ci, kh, kw, c), axis=[ci, kh, kw])

    return te.compute((n, blocks, bh, bw, ho, wo, tile["co"]), element, name="acc")


def pack_weights(job: Job, co: int) -> Packing:
    """``[co blocks, ci, kh, kw, co]``: zeros in the tail, aggregation applied.

    A mean, or a weighted mean, over input channels is a factor of the weights.
    """
    anchor, aggregation = job.kernel.nodes[:2]
    name = anchor.operands[1]
    weight = Operands(job)
    w = weight[name]
    outputs, per_group, taps_h, taps_w = shape_of(w)
    scaled = scale_weights(aggregation.opcode, w, aggregation.operands[1:], weight)

    def element(o: Any, c: Any, i: Any, j: Any, v: Any) -> Any:
        source = o * co + v
        value = scaled(source, c, i, j)
        return tirx.if_then_else(source < outputs, value, const(0, w))

    shape = (blocks_of(outputs, co), per_group, taps_h, taps_w, co)
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
