"""Tile sizes and unroll factors of one kernel, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Pairs = tuple[tuple[str, int], ...]


@dataclass(frozen=True, order=True)
class Sizes:
    """The inner tile's size and the unroll factor of loops, sorted by name."""

    tile: Pairs
    unroll: Pairs

    @staticmethod
    def of(tile: Mapping[str, int], unroll: Mapping[str, int]) -> Sizes:
        return Sizes(tuple(sorted(tile.items())), tuple(sorted(unroll.items())))

    def to_json(self) -> dict[str, dict[str, int]]:
        """Plain data."""
        return {"tile": dict(self.tile), "unroll": dict(self.unroll)}

    @staticmethod
    def from_json(data: Any) -> Sizes:
        """Inverse of :meth:`to_json`.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(data, dict) or set(data) != {"tile", "unroll"}:
            raise ValueError("these are not sizes")
        for loops in data.values():
            if not isinstance(loops, dict) or not all(map(_is_size, loops.values())):
                raise ValueError("these are not sizes")
        return Sizes.of(data["tile"], data["unroll"])


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
