"""The sizes that one kernel may be compiled with."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

from gos_fx.instructions.schedule import LOOPS
from gos_fx.ir.fusion import Kernel, partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.types import Type
from gos_fx.kernels import default_tiles, tiles
from gos_fx.kernels.dense_tiles import dense_sizes
from gos_fx.kernels.tuning.alone import is_tiled
from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.targets.target import Machine

# Up to so many tiles are all looked at; of more, as many are drawn.
_ENUMERATED = 1 << 14


@dataclass(frozen=True)
class Space:
    """All tiles and unroll factors that are legal for a kernel, and what is near what.

    Sizes that the kernel's own schedule nodes ask for are in every candidate.
    """

    kernel: Kernel
    types: Mapping[str, Type]
    machine: Machine

    @staticmethod
    def of(graph: Graph, machine: Machine) -> Space | None:
        """Of a kernel's own graph; None where its code knows no tile.

        That is so for what streams or moves data, and where no loop has a choice.
        """
        kernels = partition(graph)
        if len(kernels) != 1 or not is_tiled(kernels[0]):
            return None
        space = Space(kernels[0], graph.types, machine)
        return space if space.tiles or space.unrolls else None

    @cached_property
    def default(self) -> Sizes:
        """What the kernel is compiled with as long as nothing is known of it."""
        tile = default_tiles.default_tile(self.kernel, self.types, self.machine)
        tile = tiles.clamp(tile, tiles.extents(self.kernel, self.types))
        return self._with_factors(self._in_one_row(tile), {})

    @cached_property
    def tiles(self) -> dict[str, tuple[int, ...]]:
        """Sizes to choose from, of the loops that have a choice."""
        found = tiles.legal_tiles(self.kernel, self.types)
        return self._choices(found, dict(self.kernel.tile), dict(self.default.tile))

    @cached_property
    def unrolls(self) -> dict[str, tuple[int, ...]]:
        """Factors to choose from, of the reduction loops that have a choice."""
        found = tiles.legal_unrolls(self.kernel, self.types)
        found = {loop: found[loop] for loop in tiles.REDUCTION_LOOPS if loop in found}
        return self._choices(found, dict(self.kernel.unroll), dict(self.default.unroll))

    def some(self, count: int, rng: random.Random) -> list[Sizes]:
        """Different candidates, drawn from all tiles that fit the registers.

        They have the unroll factors that go with them by default.
        """
        fitting = [tile for tile in self._all_tiles(rng) if self._fits(tile)]
        drawn = rng.sample(fitting, min(count, len(fitting)))
        return list(dict.fromkeys(self._sizes(tile, {}) for tile in drawn))

    def near(self, sizes: Sizes) -> list[Sizes]:
        """Candidates that differ in one or two loops by a step.

        One tile size up or down; one up and another down, which keeps the number of
        accumulators; or another unroll factor.
        """
        tile, unroll = dict(sizes.tile), dict(sizes.unroll)
        default = dict(self._sizes(tile, {}).unroll)
        # Factors that follow from the tile follow from the new one too.
        chosen = {loop: f for loop, f in unroll.items() if f != default.get(loop, 1)}
        up = [{loop: s} for loop in self.tiles if (s := self._step(tile, loop, 1))]
        down = [{loop: s} for loop in self.tiles if (s := self._step(tile, loop, -1))]
        both = [a | b for a in up for b in down if set(a) != set(b)]
        found = [self._sizes(tile | moved, chosen) for moved in (*up, *down, *both)]
        found += [
            self._sizes(tile, chosen | {loop: factor})
            for loop, factors in self.unrolls.items()
            for factor in factors
            if factor != unroll.get(loop, 1)
        ]
        return [s for s in dict.fromkeys(found) if s != sizes]

    def _choices(
        self,
        found: Mapping[str, tuple[int, ...]],
        own: Mapping[str, int],
        default: Mapping[str, int],
    ) -> dict[str, tuple[int, ...]]:
        choices = {
            loop: tuple(sorted({*sizes, default.get(loop, 1)}))
            for loop, sizes in found.items()
            if loop in LOOPS and loop not in own
        }
        return {loop: sizes for loop, sizes in choices.items() if len(sizes) > 1}

    def _all_tiles(self, rng: random.Random) -> Iterator[dict[str, int]]:
        if prod(map(len, self.tiles.values())) <= _ENUMERATED:
            for sizes in product(*self.tiles.values()):
                yield dict(zip(self.tiles, sizes))
            return
        for _ in range(_ENUMERATED):
            yield {loop: rng.choice(sizes) for loop, sizes in self.tiles.items()}

    def _fits(self, tile: Mapping[str, int]) -> bool:
        """Whether the accumulators alone would not spill."""
        whole = dict(self.default.tile) | dict(tile)
        vectors = tiles.tile_vectors(self.kernel, self.types, whole, self.machine)
        return vectors <= self.machine.vector_registers

    def _step(self, tile: Mapping[str, int], loop: str, by: int) -> int | None:
        """The next larger or smaller size of a loop, None at the end."""
        size = tile.get(loop, 1)
        if by > 0:
            return min((s for s in self.tiles[loop] if s > size), default=None)
        return max((s for s in self.tiles[loop] if s < size), default=None)

    def _sizes(self, tile: Mapping[str, int], unroll: Mapping[str, int]) -> Sizes:
        """These sizes and, where they name none, the kernel's own and the default's."""
        whole = tiles.clamp(
            dict(self.default.tile) | dict(tile), tiles.extents(self.kernel, self.types)
        )
        return self._with_factors(self._in_one_row(whole), unroll)

    def _in_one_row(self, tile: dict[str, int]) -> dict[str, int]:
        """Of tiles that are the same code, always the same one.

        Where rows and columns of pixels are one loop, 2 by 4 of them are 1 by 8.
        """
        if not self._is_flat:
            return tile
        pixels = tile["ho"] * tile["wo"]
        columns = tiles.extents(self.kernel, self.types)["wo"]
        rows = next(
            ho
            for ho in range(1, pixels + 1)
            if pixels % ho == 0 and pixels // ho <= columns
        )
        return tile | {"ho": rows, "wo": pixels // rows}

    @cached_property
    def _is_flat(self) -> bool:
        named = dict(self.kernel.tile)
        if not tiles.is_dense(self.kernel, self.types) or {"ho", "wo"} & set(named):
            return False
        return dense_sizes(self.kernel, self.types).is_flat

    def _with_factors(
        self, tile: Mapping[str, int], unroll: Mapping[str, int]
    ) -> Sizes:
        factors = dict(unroll) | dict(self.kernel.unroll)
        kernel = replace(self.kernel, unroll=tuple(factors.items()))
        factors = default_tiles.default_unroll(kernel, self.types, tile, self.machine)
        return Sizes.of(_nameable(tile), _nameable(factors))


def _nameable(sizes: Mapping[str, int]) -> dict[str, int]:
    """Of the loops that a schedule node may name."""
    return {loop: size for loop, size in sizes.items() if loop in LOOPS}
