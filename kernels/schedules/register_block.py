"""The schedule of dense kernels: sums in registers, epilogue on them, then one store.

``te`` gives a stage ``acc`` whose axes are those of the output cut into blocks, the
register block last, and a stage ``out`` that reads it and applies the epilogue. The
loops of ``out`` are cut alike, ``acc`` is computed inside them with its reduction
around the register block, which is unrolled and vectorised.
"""

from __future__ import annotations

from math import gcd
from typing import Any

from tvm import s_tir
from tvm.s_tir.schedule import LoopRV

from gos_fx.kernels.dense_tiles import DensePlan, DenseSizes
from gos_fx.kernels.microkernels import STEPS, tile_kernel
from gos_fx.kernels.microkernels.insert import insert
from gos_fx.kernels.schedule_rule import Job
from gos_fx.kernels.tiles import lanes

# Stages that copy an operand: the image with its border, a matrix of columns packed.
COPIES = ("pad", "copy")
# More statements than this in an unrolled body only cost instruction cache.
MAX_BODY = 128
# Starting the threads costs as much as about this many multiply-adds.
PARALLEL_WORK = 1 << 15


def schedule_dense(
    sch: s_tir.Schedule,
    job: Job,
    plan: DensePlan,
    sizes: DenseSizes,
    pixels: tuple[int, ...] | None = None,
) -> None:
    """Schedule ``acc``, ``out``, ``pad`` and ``copy``; all other stages are inlined.

    Args:
        pixels: bytes from a block's first pixel to each of them, where a microkernel
            is to do the sums.
    """
    root = sch.get_sblock("root")
    named = {sch.get(b).name_hint: b for b in sch.get_child_blocks(root)}
    for name, block in named.items():
        if name not in ("acc", "out", *COPIES):
            sch.compute_inline(block)
    out, acc = named["out"], named["acc"]
    loops = _loops(sch, out, job)
    tile: dict[str, LoopRV] = {}
    # First by what divides the channels, so that no vector needs a condition.
    width = _width(gcd(plan.co, plan.outputs), job)
    vectors, lane = sch.split(loops["co"], [None, width])
    outer, tile["co"] = sch.split(vectors, [None, plan.co // width])
    row, tile["ho"] = sch.split(loops["ho"], [None, plan.ho])
    column, tile["wo"] = sch.split(loops["wo"], [None, plan.wo])
    if plan.rows == 1:
        chunk, column = sch.split(column, [None, plan.chunk])
    else:
        chunk, row = sch.split(row, [None, plan.chunk])
    order = [loops["n"], chunk, outer, row, column]
    inner = [tile[name] for name in ("ho", "wo", "co") if name in tile]
    copies: list[LoopRV] = []
    if not plan.by_taps:
        order, copies = _copied(sch, order, job)
    sch.reorder(*order, *copies, *inner, lane)
    for loop in copies:
        sch.unroll(loop)
    depth = 3 if plan.by_channels else 2
    first = sch.fuse(*order[:depth])
    is_parallel = sizes.work >= PARALLEL_WORK
    if is_parallel:
        sch.parallel(first)
    place = [*order, *copies][-1]
    if plan.by_taps:
        place = first if plan.by_channels else outer
    sch.compute_at(acc, place, preserve_unit_loops=True)
    _schedule_sums(sch, acc, job, plan, pixels)
    for loop in inner if _is_small(plan, job) else ():
        sch.unroll(loop)
    if width > 1:
        sch.vectorize(lane)
    inside = not plan.by_channels
    for name in COPIES:
        if name in named:
            if inside:
                sch.compute_at(named[name], first, preserve_unit_loops=True)
            _schedule_copy(sch, named[name], is_parallel and not inside)


def _loops(sch: s_tir.Schedule, out: Any, job: Job) -> dict[str, LoopRV]:
    """The loops of ``out`` as those of an image; a matrix is one of one row."""
    loops = list(sch.get_loops(out))
    if job.kernel.anchor.opcode == "matmul":
        # rows and columns of the product, wherever they are in memory
        loops = list(job.layout(job.kernel.output).logical(loops))
        sch.reorder(*loops)
        *batch, row, column = loops
        single = sch.add_unit_loop(row)
        first = sch.fuse(*batch) if batch else sch.add_unit_loop(single)
        return {"n": first, "ho": single, "wo": row, "co": column}
    names = job.layout(job.kernel.output).stored(("n", "co", "ho", "wo"))
    return dict(zip(names, loops, strict=True))


def _is_small(plan: DensePlan, job: Job) -> bool:
    """Whether the code of a whole register block is."""
    vectors = -(-plan.co // lanes(job.machine))
    return plan.ho * plan.wo * vectors <= MAX_BODY


def _copied(
    sch: s_tir.Schedule, order: list[LoopRV], job: Job
) -> tuple[list[LoopRV], list[LoopRV]]:
    """Loops over blocks of channels, rows and columns, and their unrolled parts."""
    around, copies = order[:2], []
    names = tuple(job.tile)[-2:] if job.kernel.anchor.opcode == "matmul" else ()
    row, column = names or ("wo", "co")
    for name, loop in zip((column, "ho", row), order[2:]):
        factor = gcd(job.unroll.get(name, 1), int(sch.get(loop).extent))
        if factor > 1:
            loop, copy = sch.split(loop, [None, factor])
            copies.append(copy)
        around.append(loop)
    return around, copies


def _width(channels: int, job: Job) -> int:
    """The widest vector that divides so many channels."""
    return gcd(channels, lanes(job.machine))


def _schedule_sums(
    sch: s_tir.Schedule,
    acc: Any,
    job: Job,
    plan: DensePlan,
    pixels: tuple[int, ...] | None,
) -> None:
    loops = sch.get_loops(acc)
    count = 2 if pixels or job.kernel.anchor.opcode == "matmul" else 3
    tile, reduction = loops[-count - 3 : -count], loops[-count:]
    around: list[LoopRV] = []
    copies: list[LoopRV] = []
    for name, loop in zip(("kh", "kw", "ci")[-count:], reduction):
        factor = job.unroll.get(name, 1)
        if factor > 1 and pixels is None:
            loop, copy = sch.split(loop, [None, factor])
            copies.append(copy)
        around.append(loop)
    vectors, lane = sch.split(tile[-1], [None, _width(plan.co, job)])
    if plan.by_taps:
        blocks = loops[-count - 7 : -count - 3]
        around = [around[0], *blocks, *around[1:]]
    sch.reorder(*around, *copies, *tile[:-1], vectors, lane)
    is_small = _is_small(plan, job)
    if pixels is None:
        for loop in (*copies, *tile[:-1], vectors) if is_small else copies:
            sch.unroll(loop)
        sch.vectorize(lane)
    vectors_wide = plan.co // lanes(job.machine)
    if pixels is not None and int(sch.get(around[0]).extent) == 1:
        steps = int(sch.get(around[-1]).extent)
        kernel = tile_kernel(vectors_wide, pixels, start="zero", tail=steps % STEPS)
        insert(sch, around[-1], kernel, steps)
        return
    init = sch.decompose_reduction(acc, around[0])
    start = sch.get_loops(init)[-4:]
    for loop in start[:-1] if is_small else ():
        sch.unroll(loop)
    sch.vectorize(start[-1])
    if pixels is not None:
        steps = int(sch.get(around[-1]).extent)
        kernel = tile_kernel(vectors_wide, pixels, tail=steps % STEPS)
        insert(sch, around[-1], kernel, steps)


def _schedule_copy(sch: s_tir.Schedule, pad: Any, is_parallel: bool) -> None:
    """A fill and a copy without conditions, channels vectorised where they fit."""
    rank = len(sch.get(pad).iter_vars)
    own = sch.get_loops(pad)[-rank:]
    if is_parallel:
        sch.parallel(sch.fuse(*own[: min(2, rank - 1)]))
    extent = int(sch.get(own[-1]).extent)
    width = max(w for w in range(1, 17) if extent % w == 0)
    _, vector = sch.split(own[-1], [None, width])
    sch.vectorize(vector)
