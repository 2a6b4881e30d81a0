"""Inner loops of dense kernels for 64-bit ARM, as functions of LLVM.

A function adds ``sum_k x[p][k] * w[k][c]`` to ``acc[p][c]``, for the pixels ``p`` and
output channels ``c`` of a register tile. Its instructions are put in order by a model
of the core's pipeline, which LLVM's scheduler does not have.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from gos_fx.errors import BadOption
from gos_fx.kernels.microkernels.assembly import GENERAL, Bases, Body, body
from gos_fx.kernels.microkernels.llvm import function
from gos_fx.kernels.microkernels.order import Order, orders
from gos_fx.kernels.microkernels.tile import Tile, bound, largest

__all__ = ["LANES", "STEPS", "Microkernel", "bound", "largest", "tile_kernel"]

LANES = 4  # output channels of a vector
STEPS = 4  # of the reduction in a block


@dataclass(frozen=True)
class Microkernel:
    """A function ``void name(float *acc, float *x, float *w, int64_t blocks)``.

    ``acc`` is ``[pixel][4 * vectors]``, ``w`` is ``[k][4 * vectors]``, and the numbers
    of a pixel lie behind each other from its offset to ``x``; ``k`` runs over ``4 *
    blocks``, ``blocks`` is at least one. Nothing beyond that is read.

    Attributes:
        name: of the function; its text follows from it.
        llvm_ir: a module with this function alone.
        vectors: vectors of four output channels.
        offsets: bytes from ``x`` to each pixel.
        body: the assembly.
        loop_cycles: of one block in the loop, with all data in the first cache.
        fmas: multiply-adds on vectors in a block.
    """

    name: str
    llvm_ir: str
    vectors: int
    offsets: tuple[int, ...]
    body: Body
    loop_cycles: int
    fmas: int

    @property
    def overhead(self) -> int:
        """Cycles of a call beside ``blocks * loop_cycles``."""
        return self.body.cycles(3) - 3 * self.loop_cycles


def tile_kernel(
    vectors: int, offsets: tuple[int, ...], in_order: bool = True
) -> Microkernel:
    """The microkernel for a tile of pixels.

    Args:
        vectors: vectors of four output channels.
        offsets: bytes from ``x`` to each pixel, multiples of four and not negative.
        in_order: for a core that issues in order, as the Cortex-A53 does.

    Raises:
        BadOption: the tile does not fit into the registers.
    """
    if not offsets or len(offsets) > largest(vectors):
        raise BadOption(
            f"{len(offsets)} pixels with {vectors} vectors do not fit into registers",
            do=f"From 1 to {largest(vectors)} pixels do.",
        )
    return _tile_kernel(vectors, tuple(offsets), in_order)


@lru_cache(maxsize=1024)
def _tile_kernel(vectors: int, offsets: tuple[int, ...], in_order: bool) -> Microkernel:
    tile, bases = Tile(vectors, len(offsets)), Bases.of(offsets)
    made, order = _best(tile, bases)
    text = repr((vectors, offsets, made))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    name = f"gos_tile_{len(offsets)}x{vectors}_{digest}"
    return Microkernel(
        name=name,
        llvm_ir=function(name, tile, bases, made),
        vectors=vectors,
        offsets=offsets,
        body=made,
        loop_cycles=order.period,
        fmas=tile.fmas,
    )


def _best(tile: Tile, bases: Bases) -> tuple[Body, Order]:
    for order in orders(tile, len(bases.starts) + 2, len(GENERAL)):
        if (made := body(order, bases)) is not None:
            return made, order
    raise AssertionError(f"no order of {tile}")
