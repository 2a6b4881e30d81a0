"""How a feature map lies in memory.

Instructions speak of logical axes (n, co, ho, wo). Inside a network the channels of a
pixel lie side by side, so that a convolution with a kernel of one, a linear layer and a
matrix product are the same code, and every vector is full of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from gos_fx.ir.types import Type
from gos_fx.kernels.tiles import concrete

T = TypeVar("T")
_CHANNELS_LAST = {4: (0, 2, 3, 1)}


@dataclass(frozen=True)
class Layout:
    """``order[i]`` is the logical axis that axis ``i`` in memory holds."""

    order: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        return self.order == tuple(range(len(self.order)))

    def stored(self, logical: Sequence[T]) -> tuple[T, ...]:
        """Sizes, indices or names of the axes, in the order of memory."""
        return tuple(logical[axis] for axis in self.order)

    def logical(self, stored: Sequence[T]) -> tuple[T, ...]:
        """The inverse of :meth:`stored`."""
        return tuple(stored[self.order.index(i)] for i in range(len(self.order)))


def plain(rank: int) -> Layout:
    """Axes in memory as they are named: what a package takes and gives."""
    return Layout(tuple(range(rank)))


def inside(of: Type) -> Layout:
    """The layout that a value has between two kernels."""
    order = _CHANNELS_LAST.get(of.rank) if of.role == "map" else None
    return plain(of.rank) if order is None else Layout(order)


def stored_shape(of: Type) -> tuple[int, ...]:
    """Sizes of a value between two kernels, in the order of memory."""
    return inside(of).stored(concrete(of))
