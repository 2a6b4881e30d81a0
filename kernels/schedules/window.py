"""Windows on each channel alone: depth-wise convolution and pooling, along ``wo``.

A strided input is copied to a grid whose columns are sorted by phase (column modulo
stride), so that neighbouring outputs read neighbouring elements.
"""

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
    result_name,
    schedule_rule,
)
from gos_fx.kernels.schedules.cross_correlation import scale_weights
from gos_fx.kernels.schedules.register_tile import (
    TilePlan,
    apply,
    base_name,
    blocks_of,
    epilogue,
    machine_facts,
)
from gos_fx.kernels.te_instructions import (
    by_phase,
    const,
    padded,
    shape_of,
    window_average,
)
from gos_fx.kernels.tiles import concrete, extents, is_windowed


@schedule_rule(is_windowed)
def window(job: Job) -> Scheduled:
    """``acc[n, o, i, j, co, ho, wo]``: block indices, then the inner tile."""
    anchor = job.kernel.anchor
    is_pool = anchor.opcode != "cross_correlation"
    rest = job.kernel.nodes[1 if is_pool else 2 :]
    sizes = extents(job.kernel, job.types)
    operands = Operands(job)
    x = operands[anchor.operands[0]]
    packing = None if is_pool else _weights(job)
    w = None if packing is None else te.placeholder(packing.shape, x.dtype, "weights")
    tile = {name: job.tile[name] for name in AXES[4]} | {"n": 1}
    acc = _accumulate(job, x, w, tile)
    shape = concrete(job.kernel.nodes[-1].type)
    co, ho, wo = (tile[name] for name in ("co", "ho", "wo"))

    def gather(b: Any, o: Any, i: Any, j: Any) -> Any:
        return acc(b, o // co, i // ho, j // wo, o % co, i % ho, j % wo)

    if anchor.opcode == "avg_pool":
        total = te.compute(shape, gather, name="gather")
        base = window_average(total, x, **anchor.attrs, name=_named(job, rest, "averaged"))
    else:
        base = te.compute(shape, gather, name=base_name(job, rest))
    output = epilogue(job, operands, base, rest)
    inputs = operands.placeholders
    weights = [] if w is None else [w]
    function = te.create_prim_func([*inputs.values(), *weights, output])
    is_alone = sizes["co"] == shape_of(x)[1] and sizes.get("ci", 1) == 1
    plan = TilePlan(
        loops=job.layout(job.kernel.output).stored(AXES[4]),
        inner=tile,
        order=("n", "co", "ho", "wo"),
        vector="wo",
        reductions=("kh", "kw") if is_pool else ("ci", "kh", "kw"),
        unroll=job.unroll,
        work=prod(sizes.values()),
        copy_inside=2 if is_alone and co == 1 else 0,
        **machine_facts(job),
    )
    sch = s_tir.Schedule(function)
    apply(sch, plan)
    packings = () if packing is None else (packing,)
    return Scheduled(sch.mod["main"], (*inputs, *packings))


def _named(job: Job, rest: tuple[Any, ...], otherwise: str) -> str:
    return otherwise if rest else result_name(job)


def _weights(job: Job) -> Packing:
    """The weights as they are, or times the factor of their aggregation."""
    anchor, aggregation = job.kernel.nodes[:2]
    operands = Operands(job)
    w = operands[anchor.operands[1]]
    scaled = scale_weights(aggregation.opcode, w, aggregation.operands[1:], operands)
    packed = te.compute(shape_of(w), lambda *i: scaled(*i), name="weights")
    function = te.create_prim_func([*operands.placeholders.values(), packed])
    return Packing(function, tuple(operands.placeholders), shape_of(w), w.dtype)


def _accumulate(
    job: Job, x: te.Tensor, w: te.Tensor | None, tile: dict[str, int]
) -> te.Tensor:
    attrs = job.kernel.anchor.attrs
    stride, padding = attrs["stride"], attrs["padding"]
    dilation = attrs.get("dilation", (1, 1))
    taps = attrs["kernel"] if w is None else shape_of(w)[2:]
    n, channels, height, width = shape_of(x)
    outputs, rows, columns = concrete(job.kernel.nodes[-1].type)[1:]
    co, ho, wo = (tile[name] for name in ("co", "ho", "wo"))
    bc, bh, bw = (blocks_of(outputs, co), blocks_of(rows, ho), blocks_of(columns, wo))
    grid = (
        (bh * ho - 1) * stride[0] + (taps[0] - 1) * dilation[0] + 1,
        (bw * wo - 1) * stride[1] + (taps[1] - 1) * dilation[1] + 1,
    )
    is_max = job.kernel.anchor.opcode == "max_pool"
    fill = te.min_value(x.dtype) if is_max else const(0, x)
    phases = stride[1]
    grid = (grid[0], blocks_of(grid[1], phases) * phases)
    if padding[0] or padding[2] or grid[0] > height or grid[1] != width:
        x = padded(x, padding, grid, fill)
    if phases > 1:
        x = by_phase(x, phases)
    kh = te.reduce_axis((0, taps[0]), name="kh")
    kw = te.reduce_axis((0, taps[1]), name="kw")
    per_group = 1 if w is None else shape_of(w)[1]
    ci = te.reduce_axis((0, per_group), name="ci")
    per = 1 if w is None else outputs // (channels // per_group)

    def element(b: Any, o: Any, i: Any, j: Any, c: Any, r: Any, s: Any) -> Any:
        # Tail channels of the last block read the last one and are not stored.
        channel = o * co + c
        if outputs % co:
            channel = tirx.min(channel, outputs - 1)
        source = (
            channel
            if w is None or (per, per_group) == (1, 1)
            else (channel // per * per_group + ci)
        )
        row = (i * ho + r) * stride[0] + kh * dilation[0]
        offset = kw * dilation[1]
        if phases > 1:
            column = (j * wo + s) + offset // phases
            pixel = x(b, source, row, offset % phases, column)
        else:
            pixel = x(b, source, row, j * wo + s + offset)
        if w is None:
            return (te.max if is_max else te.sum)(pixel, axis=[kh, kw])
        return te.sum(pixel * w(channel, ci, kh, kw), axis=[ci, kh, kw])

    return te.compute((n, bc, bh, bw, co, ho, wo), element, name="acc")
