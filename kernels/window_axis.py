"""Rows or columns that windows move along, cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import ceil


@dataclass(frozen=True)
class Axis:
    """Rows or columns: output ``k`` reads ``k * stride + tap * dilation - before``.

    Attributes:
        inputs, outputs: extents.
        block: outputs in a tile.
    """

    inputs: int
    outputs: int
    taps: int
    stride: int
    dilation: int
    before: int
    block: int

    @property
    def blocks(self) -> int:
        return ceil(self.outputs / self.block)

    def first(self, block: int) -> int:
        """Where the first window of a tile begins."""
        return block * self.block * self.stride - self.before

    def is_whole(self, block: int) -> bool:
        """Whether all outputs of a tile exist and read nothing outside."""
        span = (self.block - 1) * self.stride + (self.taps - 1) * self.dilation
        first = self.first(block)
        return (
            (block + 1) * self.block <= self.outputs
            and first >= 0
            and first + span < self.inputs
        )

    @cached_property
    def whole(self) -> range:
        """The tiles in the middle, which share their code."""
        found = [b for b in range(self.blocks) if self.is_whole(b)]
        return range(found[0], found[-1] + 1) if found else range(0)

    @cached_property
    def edges(self) -> tuple[int, ...]:
        """The other tiles."""
        return tuple(b for b in range(self.blocks) if b not in self.whole)

    def reads(self, block: int | None) -> dict[int, list[tuple[int, int]]]:
        """Inputs of a tile, counted from ``first``: (output in the tile, tap) of each.

        Without a block, of those in the middle.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        for output, tap in product(range(self.block), range(self.taps)):
            at = output * self.stride + tap * self.dilation
            if block is not None:
                outside = not 0 <= self.first(block) + at < self.inputs
                if outside or block * self.block + output >= self.outputs:
                    continue
            found.setdefault(at, []).append((output, tap))
        return dict(sorted(found.items()))

    def written(self, block: int | None) -> range:
        """Outputs of a tile that exist."""
        if block is None:
            return range(self.block)
        return range(min(self.block, self.outputs - block * self.block))

    def count(self, block: int | None, output: int) -> int:
        """Taps of an output of a tile that lie inside."""
        return sum(o == output for at in self.reads(block).values() for o, _ in at)

    @cached_property
    def loaded(self) -> int:
        """Inputs that all tiles load."""
        return len(self.whole) * len(self.reads(None)) + sum(
            len(self.reads(b)) for b in self.edges
        )


@lru_cache(maxsize=1 << 12)
def axis(
    inputs: int,
    outputs: int,
    taps: int,
    stride: int,
    dilation: int,
    before: int,
    block: int,
) -> Axis:
    """The axis with what is known of it already."""
    return Axis(inputs, outputs, taps, stride, dilation, before, block)
