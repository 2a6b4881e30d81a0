"""Windows on each channel alone: depth-wise convolution and pooling.

Vectorised over channels, which lie side by side. The loops are written down, not made
by transformations: tiles at the border of an image differ from those in the middle.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import te, tirx

from gos_fx.ir.types import AXES
from gos_fx.kernels.extremes import larger
from gos_fx.kernels.schedule_rule import (
    Job,
    Operands,
    Packing,
    Scheduled,
    schedule_rule,
)
from gos_fx.kernels.schedules.cross_correlation import scale_weights
from gos_fx.kernels.schedules.element import Element, element_of
from gos_fx.kernels.schedules.loops import written
from gos_fx.kernels.schedules.window_code import WindowCode
from gos_fx.kernels.schedules.window_place import Window
from gos_fx.kernels.te_instructions import shape_of
from gos_fx.kernels.tiles import extents, is_windowed
from gos_fx.kernels.window_tiles import WindowPlan, window_plan

# Multiply-adds below which one thread is done before others have started.
PARALLEL_WORK = 1 << 15


@schedule_rule(is_windowed)
def window(job: Job) -> Scheduled:
    """Tiles of ``ho x wo`` pixels and a vector of channels."""
    kernel = job.kernel
    is_pool = kernel.anchor.opcode != "cross_correlation"
    ends = (kernel.anchor.operands[0], kernel.output)
    scattered = not all(_channels_last(job, name) for name in ends)
    plan = window_plan(kernel, job.types, job.tile, job.machine, scattered=scattered)
    operands = Operands(job)
    operands.stored(kernel.anchor.operands[0])
    element = element_of(job, operands, kernel.nodes[1 if is_pool else 2 :])
    packing = None if is_pool else _weights(job, plan)
    packed = None
    if packing is not None:
        packed = tirx.decl_buffer(packing.shape, packing.dtype, "packed")
    work = prod(extents(kernel, job.types).values())
    code = WindowCode(plan, _window(job, plan, element, packed))
    *inputs, out = element.buffers
    weights = [] if packed is None else [packed]
    body = code.body(work >= PARALLEL_WORK)
    function = written([*inputs, *weights, out], body)
    packings = () if packing is None else (packing,)
    return Scheduled(function, (*operands.placeholders, *packings))


def _window(job: Job, plan: WindowPlan, element: Element, packed: Any) -> Window:
    """The operation of the anchor, its epilogue, and how its operands lie in memory."""
    anchor, dtype = job.kernel.anchor, job.types[job.kernel.anchor.operands[0]].dtype
    x, out = element.buffers[0], element.buffers[-1]
    source, target = job.layout(anchor.operands[0]), job.layout(job.kernel.output)
    outputs = plan.rows.block * plan.columns.block
    is_max = anchor.opcode == "max_pool"
    is_straight = plan.per == plan.per_group == 1
    gathered = None
    if not (is_straight and _channels_last(job, anchor.operands[0])):
        gathered = tirx.decl_buffer((plan.width,), dtype, "gathered")

    def result(index: Any, value: Any, counts: Any) -> Any:
        if anchor.opcode == "avg_pool":
            value = value * _share(anchor.attrs, counts, dtype)
        return element.value(index, value)

    return Window(
        x=x,
        out=out,
        weights=packed,
        kept=tirx.decl_buffer((outputs, plan.width), dtype, "kept"),
        gathered=gathered,
        pixel=source.stored,
        strides=(plan.columns.inputs * plan.channels, plan.channels),
        place=target.stored,
        start=tirx.min_value(dtype) if is_max else tirx.const(0, dtype),
        sums=not is_max,
        combine=larger if is_max else lambda a, b: a + b,
        result=result,
    )


def _channels_last(job: Job, name: str) -> bool:
    return job.layout(name).order[-1] == AXES[4].index("co")


def _share(attrs: Any, counts: Any, dtype: str) -> Any:
    """What a sum is multiplied by to be an average."""
    if attrs["include_pad"]:
        counts = attrs["kernel"]
    rows, columns = counts
    if isinstance(rows, int) and isinstance(columns, int):
        return tirx.const(1.0 / max(1, rows * columns), dtype)
    return tirx.const(1.0, dtype) / tirx.Cast(dtype, rows * columns)


def _weights(job: Job, plan: WindowPlan) -> Packing:
    """``[vectors, per_group, kh, kw, width]``, with the factor of an aggregation."""
    anchor, aggregation = job.kernel.nodes[:2]
    operands = Operands(job)
    w = operands[anchor.operands[1]]
    scaled = scale_weights(aggregation.opcode, w, aggregation.operands[1:], operands)
    _, per_group, taps_h, taps_w = shape_of(w)
    last = plan.channels - plan.width

    def element(v: Any, c: Any, kh: Any, kw: Any, lane: Any) -> Any:
        return scaled(tirx.min(v * plan.width, last) + lane, c, kh, kw)

    shape = (plan.vectors, per_group, taps_h, taps_w, plan.width)
    packed = te.compute(shape, element, name="packed")
    function = te.create_prim_func([*operands.placeholders.values(), packed])
    return Packing(function, tuple(operands.placeholders), shape, w.dtype)
