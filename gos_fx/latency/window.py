"""Windows on each channel alone: loads and multiply-adds of all tiles."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.tiles import POOLS, concrete, extents
from gos_fx.kernels.window_tiles import Axis, WindowPlan
from gos_fx.latency.constants import Constants
from gos_fx.latency.dense import vector_words
from gos_fx.latency.lines import gone
from gos_fx.latency.work import FLOAT_BYTES, Loop, Stage, Sweep, Work
from gos_fx.targets.target import Machine

# Multiply-adds from which the code generator makes a kernel parallel
# (kernels/schedules/window.py).
PARALLEL_WORK = 1 << 15


def window_work(
    kernel: Kernel,
    types: Mapping[str, Type],
    plan: WindowPlan,
    machine: Machine,
    epilogue: float,
    c: Constants,
    *,
    scattered: bool = False,
) -> Work:
    """Of pooling or a depth-wise convolution.

    Args:
        epilogue: cycles for each vector of results, stores left out.
        scattered: channels do not lie side by side in the input or result.
    """
    is_pool = kernel.anchor.opcode in POOLS
    wide = ceil(plan.width / machine.lanes)
    rows, columns = plan.rows, plan.columns
    tiles = rows.blocks * columns.blocks
    outputs = rows.outputs * columns.outputs
    inside = _added(rows) * _added(columns)
    loads = float(rows.loaded * columns.loaded)
    if plan.loops:
        # Each tap of the loops is a turn for each tile.
        turns = _added(rows) * (
            _added(columns) if "kw" in plan.loops else columns.blocks
        )
    else:
        turns = 0
    taps = rows.taps * columns.taps
    weights = 0.0
    if not is_pool:
        weights = float(turns or taps * (rows.blocks if plan.resident else tiles))
    load, overlap = wide * vector_words(machine), c.window_overlap
    is_written = plan.in_order and not plan.loops and plan.per_group == 1
    if is_written:
        load, overlap = 1.0, 1.0
    issue = inside * wide / machine.fma_per_cycle
    loaded = (loads + weights) * load
    if scattered or (plan.per, plan.per_group) != (1, 1):
        loaded += c.window_gather * plan.width * loads
    chains = rows.block * columns.block * wide * machine.fma_latency_cycles**-1
    if plan.loops and chains < 1.0 / machine.fma_per_cycle:
        issue /= chains
    sums = max(issue, loaded) + overlap * min(issue, loaded)
    sums = plan.per_group * sums + c.window_tile * tiles
    store = c.store + epilogue
    results = outputs * (plan.width * c.gather if scattered else wide * store)
    vectors = plan.batch * plan.vectors
    parts = plan.batch * rows.blocks * plan.chunks
    if prod(extents(kernel, types).values()) < PARALLEL_WORK:
        parts = 1
    cycles = vectors * (sums + results)
    threads = min(machine.cores, parts)
    again = _again(plan, machine, threads, c)
    return Work((Loop(cycles, parts),), _stages(kernel, types, machine), again)


def _again(plan: WindowPlan, machine: Machine, threads: int, c: Constants) -> float:
    """A line holds several vectors of channels, which read a row of tiles one after
    the other: lines that do not stay until the next one does."""
    per = machine.line_bytes // FLOAT_BYTES
    rows, columns = plan.rows, plan.columns
    span = (rows.block - 1) * rows.stride + (rows.taps - 1) * rows.dilation + 1
    pixels = span * columns.inputs + rows.block * columns.outputs
    lines = pixels * plan.channels / plan.chunks / per
    is_shared = machine.l3_bytes is not None or machine.l2_shared
    busy = threads if is_shared else 1
    part = gone(busy * lines, machine, c) * (c.crowded if busy > 1 else 1.0)
    visits = min(per / plan.width, plan.vectors / plan.chunks)
    image = plan.batch * rows.inputs * columns.inputs * plan.channels / per
    return max(0.0, visits - 1.0) * image * part


def _added(axis: Axis) -> int:
    """Pairs of an output and a tap that lies inside, along one axis."""
    whole = len(axis.whole) * axis.block * axis.taps
    edges = (len(readers) for b in axis.edges for readers in axis.reads(b).values())
    return whole + sum(edges)


def _stages(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine
) -> tuple[Stage, ...]:
    per = machine.line_bytes / FLOAT_BYTES
    sizes = {x: prod(concrete(types[x])) / per for x in kernel.inputs}
    out = prod(concrete(kernel.nodes[-1].type)) / per
    maps = [Sweep(x, sizes[x], True) for x in sizes if types[x].role == "map"]
    inputs = [Sweep(x, size) for x, size in sizes.items()]
    return (maps, [*inputs, Sweep(kernel.output, out, True)])
