"""Inner loops of dense kernels for 64-bit ARM, as functions of LLVM.

A function adds ``sum_k x[p][k] * w[k][c]`` to ``acc[p][c]``, for the pixels ``p`` and
output channels ``c`` of a register tile. For a core that issues in order its
instructions are put in order by a model of that core, which LLVM's scheduler lacks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from gos_fx.errors import BadOption
from gos_fx.kernels.microkernels.assembly import GENERAL, STEPS, Bases, Body, body
from gos_fx.kernels.microkernels.llvm import function
from gos_fx.kernels.microkernels.order import Order, find_order
from gos_fx.kernels.microkernels.plain import plain_body
from gos_fx.kernels.microkernels.start import STARTS, started
from gos_fx.kernels.microkernels.tile import Tile, bound, largest

__all__ = ["LANES", "STEPS", "Microkernel", "bound", "largest", "tile_kernel"]

LANES = 4  # output channels of a vector


@dataclass(frozen=True)
class Microkernel:
    """A function ``void name(float *acc, float *x, float *w, int64_t blocks)``.

    ``acc`` is ``[pixel][4 * vectors]``, ``w`` is ``[k][4 * vectors]``, and the numbers
    of a pixel lie behind each other from its offset to ``x``; ``k`` runs over ``4 *
    blocks + tail``, ``blocks`` is at least one. Nothing beyond that is read.

    Attributes:
        name: of the function; its text follows from it.
        llvm_ir: a module with this function alone.
        vectors: vectors of four output channels.
        offsets: bytes from ``x`` to each pixel.
        start: what accumulators start with; see :func:`tile_kernel`.
        tail: steps of the reduction behind its blocks.
        body: the assembly.
        fmas: multiply-adds on vectors in a block.
        loop_cycles: of one block, with all data in the first cache.
        overhead: cycles of a call beside its blocks.
    """

    name: str
    llvm_ir: str
    vectors: int
    offsets: tuple[int, ...]
    start: str
    tail: int
    body: Body
    fmas: int
    loop_cycles: float
    overhead: float


def tile_kernel(
    vectors: int,
    offsets: tuple[int, ...],
    in_order: bool = True,
    start: str = "add",
    tail: int = 0,
) -> Microkernel:
    """The microkernel for a tile of pixels.

    Args:
        vectors: vectors of four output channels.
        offsets: bytes from ``x`` to each pixel, not negative.
        in_order: for a core that issues in order, as the Cortex-A53 does.
        start: ``"add"`` to what ``acc`` holds; ``"zero"``: ``acc`` is only written;
            ``"bias"``: as zero, from the ``4 * vectors`` numbers to which a fifth
            argument of the function points.
        tail: steps of the reduction behind its blocks, from 0 to 3.

    Raises:
        BadOption: the tile does not fit into the registers, or another option is none.
    """
    if not 0 < len(offsets) <= largest(vectors):
        raise BadOption(
            f"{len(offsets)} pixels with {vectors} vectors do not fit into registers",
            do=f"From 1 to {largest(vectors)} pixels do.",
        )
    if start not in STARTS:
        raise BadOption(f"start={start!r}", do=f"It is one of {', '.join(STARTS)}.")
    if not 0 <= tail < STEPS:
        raise BadOption(f"tail={tail}", do=f"It is less than {STEPS}.")
    return _tile_kernel(vectors, tuple(offsets), in_order, start, tail)


@lru_cache(maxsize=1024)
def _tile_kernel(
    vectors: int, offsets: tuple[int, ...], in_order: bool, start: str, tail: int
) -> Microkernel:
    tile = Tile(vectors, len(offsets))
    if in_order:
        bases = Bases.of(offsets, 8, 4 if tail % 2 else 8)
        made = body(_order(tile, len(bases.starts) + 2), bases, tail)
    else:
        made = plain_body(tile, Bases.of(offsets, 16, 4 if tail else 16), tail)
    made = started(made, tile, start)
    loop, overhead = float(tile.fmas), 0.0  # out of order, what else there is is free
    if in_order:
        loop = made.loop_cycles()
        overhead = made.cycles(3) - 3 * loop
    digest = hashlib.sha256(repr((made, start)).encode()).hexdigest()[:12]
    name = f"gos_tile_{len(offsets)}x{vectors}_{digest}"
    return Microkernel(
        name=name,
        llvm_ir=function(name, tile, made, start),
        vectors=vectors,
        offsets=offsets,
        start=start,
        tail=tail,
        body=made,
        fmas=tile.fmas,
        loop_cycles=loop,
        overhead=overhead,
    )


@lru_cache(maxsize=256)
def _order(tile: Tile, others: int) -> Order:
    return find_order(tile, others, len(GENERAL))
