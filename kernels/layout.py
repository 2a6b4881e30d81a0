"""How a feature map lies in memory.

Instructions speak of logical axes (n, co, ho, wo). Inside a network the channels of a
pixel lie side by side, so that a convolution with a kernel of one, a linear layer and a
matrix product are the same code, and every vector is full of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from gos_fx.ir.graph import Node
from gos_fx.ir.network import Network
from gos_fx.ir.types import Type
from gos_fx.kernels.tiles import concrete

T = TypeVar("T")
_CHANNELS_LAST = {4: (0, 2, 3, 1)}
_OF_IMAGES = ("cross_correlation", "max_pool", "avg_pool", "resize")
# Their results lie as their operands do; all others start anew.
_BREAKS = ("reshape", "transpose", "expand", "slice", "matmul", "softmax", "layer_norm")


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


@dataclass(frozen=True)
class Seen(Layout):
    """A value that is not stored: ``steps`` lead from the memory of ``source`` to it.

    Each step is a movement (reshape, transpose, slice, expand) of the one before.
    """

    source: str = ""
    steps: tuple[Node, ...] = ()

    @property
    def is_plain(self) -> bool:
        return False


def plain(rank: int) -> Layout:
    """Axes in memory as they are named: what a package takes and gives."""
    return Layout(tuple(range(rank)))


def inside(of: Type) -> Layout:
    """The layout that a value has between two kernels."""
    order = _CHANNELS_LAST.get(of.rank) if of.role == "map" else None
    return plain(of.rank) if order is None else Layout(order)


def results(of: Type, layout: Layout | None) -> list[tuple[Type, Layout]]:
    """What a kernel writes, and how it lies: one value as ``layout`` says, by default
    as between two kernels; the parts of a bundle with their axes as they are named."""
    if of.is_bundle:
        return [(part, plain(part.rank)) for part in of.parts]
    return [(of, layout or inside(of))]


def stored_shape(of: Type) -> tuple[int, ...]:
    """Sizes of a value between two kernels, in the order of memory."""
    return inside(of).stored(concrete(of))


def assign_layouts(network: Network, *, border: bool) -> dict[str, Layout]:
    """Of the values that do not lie as :func:`inside` says.

    Those are maps of rank 4 that are no images, as in attention: neither convolutions
    nor pools have anything to do with them.

    Args:
        border: what goes in and comes out has its axes in logical order.
    """
    images = _images(network)
    layouts = {
        name: plain(4)
        for name, of in network.types.items()
        if of.rank == 4 and of.role == "map" and name not in images
    }
    ends = [v.name for v in network.inputs if v.type.role == "map"]
    for name in (*ends, *network.outputs):
        layouts.pop(name, None)
        if border:
            layouts[name] = plain(network.types[name].rank)
    return layouts | {name: plain(network.types[name].rank) for name in _parts(network)}


def _parts(network: Network) -> set[str]:
    """Results that are taken out of bundles, or put into one."""
    given = {v.name for v in network.inputs}
    taken = {node.name for node in network.nodes if node.opcode == "result"}
    put = {
        x for node in network.nodes if node.opcode == "bundle" for x in node.operands
    }
    return taken | put - given


def _images(network: Network) -> set[str]:
    """Maps of rank 4 that reach a convolution or pool over element-wise values."""
    near: dict[str, set[str]] = {name: set() for name in network.types}
    found: list[str] = []
    for node in network.nodes:
        maps = [name for name in node.operands if network.types[name].role == "map"]
        if node.opcode in _OF_IMAGES:
            found += [node.name, *maps]
        if node.opcode not in _BREAKS:
            for name in maps:
                near[name].add(node.name)
                near[node.name].add(name)
    images: set[str] = set()
    while found:
        name = found.pop()
        if name not in images:
            images.add(name)
            found += near[name]
    return images
