"""What a register tile is made of, and how well it can possibly use the FMA unit."""

from __future__ import annotations

from dataclasses import dataclass

VECTOR_REGISTERS = 32
# A multiply-add waits so many cycles for the one before it on the same accumulator.
FORWARDED = 4


@dataclass(frozen=True)
class Tile:
    """Accumulators of ``pixels`` times ``vectors`` vectors of four output channels.

    A block is four steps of the reduction. One register holds the four numbers of a
    pixel in a block; a pass is the multiply-adds of all pixels with one vector of
    weights, so that a block has four passes for each vector.
    """

    vectors: int
    pixels: int

    @property
    def passes(self) -> int:
        return 4 * self.vectors

    @property
    def fmas(self) -> int:
        """Multiply-adds of a block."""
        return self.passes * self.pixels

    @property
    def loads(self) -> int:
        """Vectors that a block loads."""
        return self.passes + self.pixels

    @property
    def spare(self) -> int:
        """Registers that are left for weights."""
        return VECTOR_REGISTERS - self.pixels * (self.vectors + 1)

    @property
    def bytes(self) -> int:
        """Of the weights of a block."""
        return 16 * self.passes


def weights_needed(vectors: int, pixels: int) -> int:
    """Registers for weights: two words of the same register are not moved at once, so
    that a single one that is being reloaded needs words of pixels beside its own."""
    return 2 if pixels >= 4 * vectors else 4


def largest(vectors: int) -> int:
    """The most pixels whose tile fits into the registers, 0 if not even one does."""
    fitting = (
        pixels
        for pixels in range(1, VECTOR_REGISTERS)
        if Tile(vectors, pixels).spare >= weights_needed(vectors, pixels)
    )
    return max(fitting, default=0)


def bound(vectors: int, pixels: int) -> float:
    """The largest possible share of cycles in which a multiply-add is issued.

    On an in-order core with one 128-bit SIMD unit and a load path of 64 bits, a vector
    takes half of the unit for each of its two words, beside which no multiply-add goes,
    and two cycles of the load path. An accumulator is added to every fourth cycle.
    """
    tile = Tile(vectors, pixels)
    cycles = (tile.fmas + tile.loads, 2 * tile.loads, 4 * FORWARDED)
    return tile.fmas / max(cycles)
