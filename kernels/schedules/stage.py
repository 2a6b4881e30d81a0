"""The plain schedule: every stage parallel over its outer loops, vectorised inside.

For elementwise chains, reductions, softmax and data movement, and for the functions
that TVM itself makes of the torch operators between ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from tvm import s_tir, te
from tvm.s_tir.schedule import LoopRV, SBlockRV

from gos_fx.kernels.schedule_rule import Job, Scheduled, schedule_rule
from gos_fx.kernels.schedules.pointwise import (
    PARALLEL_WORK,
    chain,
    concatenation,
    is_pointwise,
    pointwise,
)
from gos_fx.kernels.schedules.reduction import is_reduction, reduction
from gos_fx.kernels.tiles import axes, lanes

MAX_VECTOR = 64


@schedule_rule()
def stages(job: Job) -> Scheduled:
    """Any kernel from the functions of its instructions."""
    # A number has no loop of its own to split.
    is_number = job.kernel.nodes[-1].type.rank == 0
    is_steered = not is_number and bool(job.kernel.tile or job.kernel.unroll)
    if not is_steered and is_reduction(job):
        return reduction(job)
    if not is_steered and job.kernel.anchor.opcode == "concat":
        return concatenation(job)
    operands, output = chain(job)
    if not is_steered and is_pointwise(output):
        return pointwise(job)
    last = job.kernel.nodes[-1]
    function = te.create_prim_func([*operands.placeholders.values(), output])
    sch = s_tir.Schedule(function)
    names = job.layout(job.kernel.output).stored(axes(last.type.rank))
    tile = {loop: size for loop, size in job.kernel.tile if loop in names}
    unroll = {loop: factor for loop, factor in job.kernel.unroll if loop in names}
    schedule_stages(sch, lanes(job.machine), skip="out" if is_steered else None)
    if is_steered:
        _tile_output(sch, sch.get_sblock("out"), names, tile, unroll)
    return Scheduled(sch.mod["main"], tuple(operands.placeholders))


def schedule_stages(sch: s_tir.Schedule, width: int, skip: str | None = None) -> None:
    """Inline what is pointwise, then schedule each stage that is left."""
    root = sch.get_sblock("root")
    for block in sch.get_child_blocks(root):
        if _inlinable(sch, block):
            sch.compute_inline(block)
    for block in sch.get_child_blocks(root):
        if sch.get(block).name_hint != skip:
            schedule_stage(sch, block, width)


def _inlinable(sch: s_tir.Schedule, block: SBlockRV) -> bool:
    source = sch.get(block)
    pure = all(int(v.iter_type) == 0 for v in source.iter_vars)
    kept = source.name_hint.startswith(("keep_", "pad", "copy"))
    return pure and not kept and bool(sch.get_consumers(block))


def schedule_stage(sch: s_tir.Schedule, block: SBlockRV, width: int) -> None:
    """Outer loops parallel where there is work for it, the last one vectorised."""
    loops = list(sch.get_loops(block))
    if not loops:
        return
    kinds = [int(v.iter_type) for v in sch.get(block).iter_vars]
    sizes = [int(sch.get(loop).extent) for loop in loops]
    if len(kinds) != len(loops):
        return
    spatial = [loop for loop, kind in zip(loops, kinds) if kind == 0]
    reduced = [loop for loop, kind in zip(loops, kinds) if kind != 0]
    if not spatial:
        return
    inner = spatial[-1] if len(spatial) > 1 else None
    work = prod(sizes)
    if not reduced and sch.get(block).name_hint.startswith(("pad", "copy")):
        if sizes[-1] <= MAX_VECTOR:
            sch.vectorize(loops[-1])
        fused = sch.fuse(*loops[:-1]) if len(loops) > 1 else loops[0]
        if work >= PARALLEL_WORK and len(loops) > 1:
            sch.parallel(fused)
        return
    if not reduced:
        _schedule_elements(sch, spatial, width)
        return
    rest = [loop for loop in spatial if loop is not inner]
    vector = None
    if inner is not None:
        size = _vector_width(int(sch.get(inner).extent), 2 * width)
        outer, vector = sch.split(inner, [None, size])
        rest.append(outer)
    sch.reorder(*rest, *reduced, *([vector] if vector is not None else []))
    fused = sch.fuse(*rest) if len(rest) > 1 else rest[0]
    if work >= PARALLEL_WORK:
        sch.parallel(fused)
    if vector is not None:
        sch.vectorize(vector)
    init = sch.decompose_reduction(block, reduced[0])
    if vector is not None:
        sch.vectorize(sch.get_loops(init)[-1])


def _schedule_elements(
    sch: s_tir.Schedule, loops: Sequence[LoopRV], width: int
) -> None:
    """Vectors along the last axis, or along all of them; of what no vector divides,
    the rest by itself."""
    *outer, last = loops
    extent = int(sch.get(last).extent)
    work = prod(int(sch.get(loop).extent) for loop in loops)
    if outer and extent > width and _vector_width(extent, 4 * width) < width:
        first = sch.fuse(*outer) if len(outer) > 1 else outer[0]
        whole, rest = sch.loop_partition(last, [extent // width * width, None])
        _, vector = sch.split(whole, [None, width])
        sch.vectorize(vector)
        sch.vectorize(rest)
    else:
        fused = sch.fuse(*loops) if outer else last
        first, vector = sch.split(fused, [None, _vector_width(work, 4 * width)])
        sch.vectorize(vector)
    if work >= PARALLEL_WORK:
        sch.parallel(first)


def _vector_width(extent: int, widest: int) -> int:
    """The widest divisor of an extent that a vector may have."""
    limit = min(extent, widest, MAX_VECTOR)
    return max(w for w in range(1, limit + 1) if extent % w == 0)


def _tile_output(
    sch: s_tir.Schedule,
    block: SBlockRV,
    names: tuple[str, ...],
    tile: Mapping[str, int],
    unroll: Mapping[str, int],
) -> None:
    """The loops of the output split by the tile: outer loops, then the inner block."""
    loops = list(sch.get_loops(block))
    spatial, reduced = loops[: len(names)], loops[len(names) :]
    outer: list[Any] = []
    unrolled: list[Any] = []
    inner: list[Any] = []
    for name, loop in zip(names, spatial):
        extent = int(sch.get(loop).extent)
        size = max(1, min(tile.get(name, 1), extent))
        out, tiled = sch.split(loop, [None, size])
        trips = -(-extent // size)
        factor = min(unroll.get(name, 1), trips)
        factor = max(f for f in range(1, factor + 1) if trips % f == 0)
        out, repeated = sch.split(out, [None, factor])
        outer.append(out)
        unrolled.append(repeated)
        inner.append(tiled)
    sch.reorder(*outer, *unrolled, *reduced, *inner)
    last = int(sch.get(inner[-1]).extent)
    parallel = sch.fuse(*outer)
    sch.parallel(parallel)
    for loop in unrolled:
        sch.unroll(loop)
    if last <= MAX_VECTOR:
        sch.vectorize(inner[-1])
    if reduced:
        init = sch.decompose_reduction(block, reduced[0])
        if last <= MAX_VECTOR:
            sch.vectorize(sch.get_loops(init)[-1])
