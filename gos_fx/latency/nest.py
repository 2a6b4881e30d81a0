"""A kernel as a loop nest: extents, tile, unrolling, and what each step reads.

Nothing here counts cycles; ``gos_fx.latency.issue`` does. ``gos_fx.latency.nesting``
makes the nest of a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

FLOAT_BYTES = 4
# Multiply-adds from which the code generator makes a kernel parallel, and the blocks
# for each core that let it leave the innermost outer loop out
# (kernels/schedules/register_tile.py).
PARALLEL_WORK = 1 << 15
BALANCE = 4
Extents = Mapping[str, int]


@dataclass(frozen=True)
class Axis:
    """One axis of a value: iteration i of a loop is at ``i // every * step``.

    ``loops`` holds (loop, step, every); the positions of several loops add up.
    """

    size: int
    loops: tuple[tuple[str, int, int], ...] = ()

    def positions(self, extents: Extents) -> int:
        """Distance from the first to the last position, at most the whole axis."""
        moves = ((extents[x] - 1) // every * step for x, step, every in self.loops)
        return min(self.size, 1 + sum(moves))


def along(size: int, *loops: str) -> Axis:
    """An axis on which the loops take one step for each iteration."""
    return Axis(size, tuple((loop, 1, 1) for loop in loops))


@dataclass(frozen=True)
class Stream:
    """A value that a nest reads or writes. ``role`` is that of its type."""

    name: str
    role: str
    axes: tuple[Axis, ...]

    def moves_with(self, loop: str) -> bool:
        """Whether neighbouring iterations of the loop read different elements."""
        return any(
            loop == name and every == 1
            for axis in self.axes
            for name, _, every in axis.loops
        )

    def elements(self, extents: Extents) -> int:
        """Distinct elements touched while the loops run over these extents."""
        return prod(axis.positions(extents) for axis in self.axes)

    def bytes(self, extents: Extents) -> int:
        return FLOAT_BYTES * self.elements(extents)


@dataclass(frozen=True)
class Copy:
    """What is made of an operand before the nest reads it.

    Attributes:
        source: the operand.
        planes: how often a plane is copied.
        rows, columns: of a plane of the copy.
        filled: the plane is filled before, and only the part inside copied.
        inside: rows and columns that are copied.
        phases: columns that are sorted apart; 1: none.
        local: made within the parallel loop, plane by plane, else before all of it.
        by_element: not by vectors.
        zeros: filled with zeros, which is the C library's affair.
    """

    source: str
    planes: int
    rows: int
    columns: int
    filled: bool = False
    inside: tuple[int, int] = (0, 0)
    phases: int = 1
    local: bool = False
    by_element: bool = False
    zeros: bool = True

    @property
    def bytes(self) -> int:
        """Of all planes."""
        return FLOAT_BYTES * self.planes * self.rows * self.columns


@dataclass(frozen=True)
class Nest:
    """Outer loops over tiles of ``outputs``, then ``reductions``, then the tile.

    Attributes:
        outputs: extents in the order in which the tiles are visited, outermost first.
        reductions: extents, outermost first.
        tile: size of the register tile along each output loop.
        unroll: factors of reduction and outer loops.
        vector: the loop of the tile that is vectorised.
        reads: operands of the inner step.
        late: values that the epilogue reads.
        write: the result.
        scattered: the result is not contiguous along the vectorised loop.
        copies: of operands, made before the nest: to pad, to separate strides, to pack.
        cut: an operand is read through a condition, since the last tile is cut.
        is_counted: each result is divided by how much of its window lies inside.
    """

    outputs: dict[str, int]
    reductions: dict[str, int]
    tile: dict[str, int]
    unroll: dict[str, int]
    vector: str
    reads: tuple[Stream, ...]
    late: tuple[Stream, ...]
    write: Stream
    scattered: bool
    copies: tuple[Copy, ...] = ()
    cut: bool = False
    is_counted: bool = False

    @property
    def tiles(self) -> dict[str, int]:
        """Tiles along each output loop; the last one may be cut."""
        return {
            loop: -(-size // self.tile[loop]) for loop, size in self.outputs.items()
        }

    def parts(self, cores: int) -> int:
        """Equal parts that the code generator gives to threads."""
        if prod(self.outputs.values()) * self.steps < PARALLEL_WORK:
            return 1
        *outer, last = (
            count // self.unroll.get(loop, 1) for loop, count in self.tiles.items()
        )
        if any(copy.local for copy in self.copies):
            return prod(outer[:2])
        blocks = prod(outer)
        return blocks if blocks >= BALANCE * cores else blocks * last

    @property
    def steps(self) -> int:
        """Inner steps of one tile."""
        return prod(self.reductions.values())

    @property
    def is_windowed(self) -> bool:
        """Windows on each channel alone, vectorised along a row."""
        return "kh" in self.reductions and self.vector != "co"

    @property
    def stored(self) -> str:
        """The loop of the tile along which results are stored: contiguous if it can."""
        order = [x for x in ("n", "t", "co", "ho", "wo") if x in self.tile]
        wide = [loop for loop in order if self.tile[loop] > 1]
        return wide[-1] if wide else order[-1]

    @property
    def is_tailed(self) -> bool:
        """Whether a tile may reach over the end of the output."""
        return any(size % self.tile[loop] for loop, size in self.outputs.items())

    @property
    def streams(self) -> tuple[Stream, ...]:
        return (*self.reads, *self.late, self.write)

    def extents(self, outputs: Extents) -> dict[str, int]:
        """These output extents with the whole reduction."""
        return {**outputs, **self.reductions}
