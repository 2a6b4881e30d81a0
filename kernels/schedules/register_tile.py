"""The register tile: the schedule that convolution, pooling and matmul share.

``te`` gives a stage ``acc`` whose axes are those of the output cut into blocks, the
inner tile last, and a stage ``out`` that reads it and applies the epilogue. The loops
of ``out`` are split by the tile, ``acc`` is computed inside them, its reduction loops
go around the inner tile, and the inner tile is unrolled and vectorised, so that LLVM
keeps it in registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import s_tir
from tvm.s_tir.schedule import LoopRV

from gos_fx.kernels.schedule_rule import Job
from gos_fx.kernels.schedules.epilogue import base_name, blocks_of, epilogue
from gos_fx.kernels.tiles import MAX_BODY, lanes

# Multiply-adds below which one thread is done before others have started.
PARALLEL_WORK = 1 << 15
# Blocks per core that still balance when the last outer loop stays out of the fusion.
BALANCE = 4
# Accumulators beyond this many elements go to the heap, not to the stack.
MAX_LOCAL = 1 << 13
# Wider vectors only take LLVM long to take apart.
MAX_VECTOR = 64
# Stages that copy the input, from the last to the first.
COPIES = ("phases", "pad", "copy")


@dataclass(frozen=True)
class TilePlan:
    """How the loops of ``out`` become blocks.

    Attributes:
        loops: names of the loops of ``out`` in order.
        inner: size of the inner tile of each of them.
        order: the names of the outer loops, outermost first.
        vector: the loop of ``acc`` that is vectorised; its inner axis is the last one.
        reductions: names of the reduction loops of ``acc`` in order.
        unroll: unroll factors; they divide their loops.
        cores: for how many threads there should be work.
        work: multiply-adds of the whole kernel.
        lanes: float32 elements of a vector register.
        copy_inside: the parallel loop is made of this many outer loops, and copies of
            the input (padded, sorted by phase) are made inside it; 0: before all.
    """

    loops: tuple[str, ...]
    inner: Mapping[str, int]
    order: tuple[str, ...]
    vector: str
    reductions: tuple[str, ...]
    unroll: Mapping[str, int]
    cores: int
    work: int
    lanes: int
    copy_inside: int = 0


def apply(sch: s_tir.Schedule, plan: TilePlan) -> None:
    """Schedule ``acc``, ``out`` and the copies of the input."""
    root = sch.get_sblock("root")
    named = {sch.get(b).name_hint: b for b in sch.get_child_blocks(root)}
    for name, block in named.items():
        if name not in ("acc", "out", *COPIES):
            sch.compute_inline(block)
    out, acc = named["out"], named["acc"]
    outer, repeated, inner = _split_output(sch, out, plan)
    sch.reorder(*outer.values(), *repeated, *inner.values())
    names = list(outer)
    count = {name: int(sch.get(loop).extent) for name, loop in outer.items()}
    copies = [named[name] for name in COPIES if name in named]
    inside = bool(copies and plan.copy_inside)
    fused = plan.copy_inside if inside else _parallel_depth(count, plan)
    last = [*outer.values(), *repeated][-1]
    is_parallel = plan.work >= PARALLEL_WORK
    first = sch.fuse(*[outer[name] for name in names[:fused]])
    if is_parallel:
        sch.parallel(first)
    if fused == len(outer) and not repeated:
        last = first
    tile = prod(plan.inner[name] for name in plan.loops)
    if tile * prod(int(sch.get(loop).extent) for loop in repeated) <= MAX_LOCAL:
        for loop in repeated:
            sch.unroll(loop)
    sch.compute_at(acc, last, preserve_unit_loops=True)
    if tile <= MAX_LOCAL:
        sch.set_scope(acc, 0, "local")
    _schedule_accumulation(sch, acc, plan)
    _schedule_store(sch, inner, plan)
    for block in copies:
        if inside:
            sch.compute_at(block, first, preserve_unit_loops=True)
        _schedule_copy(sch, block, plan, is_parallel and not inside)


def _split_output(
    sch: s_tir.Schedule, out: Any, plan: TilePlan
) -> tuple[dict[str, LoopRV], list[LoopRV], dict[str, LoopRV]]:
    """Outer loops in order of the plan, unrolled copies of the block, inner loops."""
    outer: dict[str, LoopRV] = {}
    inner: dict[str, LoopRV] = {}
    repeated: list[LoopRV] = []
    for name, loop in zip(plan.loops, sch.get_loops(out)):
        extent = int(sch.get(loop).extent)
        size = plan.inner[name]
        block, inner[name] = sch.split(loop, [None, size])
        factor = plan.unroll.get(name, 1)
        if factor > 1 and blocks_of(extent, size) % factor == 0:
            block, copy = sch.split(block, [None, factor])
            repeated.append(copy)
        outer[name] = block
    return {name: outer[name] for name in plan.order}, repeated, inner


def _parallel_depth(count: Mapping[str, int], plan: TilePlan) -> int:
    """How many outer loops are fused into the parallel one."""
    names = list(count)
    if prod(count[name] for name in names[:-1]) >= BALANCE * plan.cores:
        return len(names) - 1
    return len(names)


def _schedule_accumulation(sch: s_tir.Schedule, acc: Any, plan: TilePlan) -> None:
    rank = len(plan.loops)
    loops = sch.get_loops(acc)
    reductions = dict(zip(plan.reductions, loops[-len(plan.reductions) :]))
    tile = loops[-len(plan.reductions) - rank : -len(plan.reductions)]
    around: list[LoopRV] = []
    copies: list[LoopRV] = []
    for name in plan.reductions:
        loop = reductions[name]
        factor = plan.unroll.get(name, 1)
        if factor > 1:
            loop, copy = sch.split(loop, [None, factor])
            copies.append(copy)
        around.append(loop)
    sch.reorder(*around, *copies, *tile)
    body = prod(int(sch.get(loop).extent) for loop in [*tile[:-1], *copies])
    wide = blocks_of(int(sch.get(tile[-1]).extent), plan.lanes)
    is_small = body * wide <= MAX_BODY
    for loop in [*copies, *tile[:-1]] if is_small else ():
        sch.unroll(loop)
    _vectorize(sch, tile[-1], plan)  # not after the next line: TVM would refuse it
    init = sch.decompose_reduction(acc, around[0])
    start = sch.get_loops(init)[len(loops) - rank - len(plan.reductions) :]
    for loop in start[: rank - 1] if is_small else ():
        sch.unroll(loop)
    if len(start) == rank:
        _vectorize(sch, start[-1], plan)
    else:  # split like the tile
        sch.vectorize(start[-1])


def _vectorize(sch: s_tir.Schedule, loop: LoopRV, plan: TilePlan) -> None:
    """The loop as one vector, or as several where it is long."""
    extent = int(sch.get(loop).extent)
    if extent > MAX_VECTOR:
        if extent % plan.lanes:
            return
        _, loop = sch.split(loop, [None, plan.lanes])
    sch.vectorize(loop)


def _schedule_store(
    sch: s_tir.Schedule, inner: Mapping[str, LoopRV], plan: TilePlan
) -> None:
    """The epilogue in the tile, vectorised along the axis contiguous in memory."""
    extent = {name: int(sch.get(loop).extent) for name, loop in inner.items()}
    contiguous = next(
        (name for name in reversed(plan.loops) if extent[name] > 1), plan.loops[-1]
    )
    sch.reorder(*[inner[n] for n in plan.loops if n != contiguous], inner[contiguous])
    small = prod(extent.values()) <= MAX_BODY
    for name in plan.loops:
        if name == contiguous and 1 < extent[name] <= MAX_VECTOR:
            sch.vectorize(inner[name])
        elif small:
            sch.unroll(inner[name])


def _schedule_copy(
    sch: s_tir.Schedule, block: Any, plan: TilePlan, is_parallel: bool
) -> None:
    """One copy of the input; padding is a fill and a copy without conditions."""
    rank = len(sch.get(block).iter_vars)
    loops = sch.get_loops(block)
    outer, own = loops[:-rank], loops[-rank:]
    is_pad = sch.get(block).name_hint == "pad"
    first = own[0] if outer else sch.fuse(*own[:2])
    if is_pad:
        try:
            _vectorize_last(sch, sch.decompose_padding(block, first))
        except s_tir.ScheduleError:  # the tiles read nothing outside after all
            is_pad = False
    if is_parallel:
        sch.parallel(first)
    if is_pad:
        _vectorize_last(sch, block)


def _vectorize_last(sch: s_tir.Schedule, block: Any) -> None:
    last = sch.get_loops(block)[-1]
    if 1 < int(sch.get(last).extent) <= MAX_BODY:
        sch.vectorize(last)


def machine_facts(job: Job) -> dict[str, Any]:
    """The fields of a plan that come from the machine."""
    return {
        "cores": int(getattr(job.machine, "cores", 1)),
        "lanes": lanes(job.machine),
    }
