"""Values that only move: reshapes, transposes, slices and expansions of a network.

Nobody needs to store them where the readers can look into the memory that holds the
numbers already. Each becomes an ``alias`` of that memory where the order is the same
one, else a ``view`` through which the readers index it, else, for readers that want
their input side by side, a kernel ``move``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gos_fx.ir.fusion import ALIAS, SCHEDULE, VIEW
from gos_fx.ir.graph import Node
from gos_fx.ir.network import Network
from gos_fx.kernels.layout import Layout, Seen, assign_layouts, inside
from gos_fx.kernels.tiles import concrete

MOVEMENT = ("reshape", "transpose", "slice", "expand")
# These read each element many times, neighbouring channels together.
_POOLED = ("cross_correlation", "max_pool", "avg_pool")
# Bundles and scans are memory; a schedule node steers the code that moves a value.
_WANT_STORED = (*_POOLED, "bundle", "scan", *SCHEDULE)
Array = NDArray[np.int64]


def settle(network: Network, *, border: bool) -> tuple[Network, dict[str, Layout]]:
    """The network with every movement of maps decided, and how its values lie.

    The layouts are those of values that do not lie as
    :func:`~gos_fx.kernels.layout.inside` says.

    Args:
        border: what goes in and comes out has its axes in logical order.
    """
    layouts = assign_layouts(network, border=border)
    ends = {v.name for v in network.inputs} | set(network.outputs)
    _lie_alike(network, layouts, set() if border else ends)
    moves = _Moves(network, layouts)
    settled = [
        moves.settled(node)
        for node in network.nodes
        if moves.is_move(node) and moves.is_needed(node.name)
    ]
    # Right behind what they move, so that it is there for whatever comes later.
    behind: dict[str, list[Node]] = {}
    for node in settled:
        behind.setdefault(node.operands[0], []).append(node)
    nodes = [node for v in network.inputs for node in behind.get(v.name, ())]
    for node in network.nodes:
        if not moves.is_move(node):
            nodes += [node, *behind.get(node.name, ())]
    return replace(network, nodes=tuple(nodes)), layouts


def _lie_alike(network: Network, layouts: dict[str, Layout], given: set[str]) -> None:
    """A value with its schedule nodes is one memory under several names; how those in
    ``given`` lie is settled."""
    groups: dict[str, list[str]] = {}
    roots: dict[str, str] = {}
    for node in network.nodes:
        if node.opcode in SCHEDULE:
            source = node.operands[0]
            root = roots[node.name] = roots.get(source, source)
            groups.setdefault(root, [root]).append(node.name)
    for group in groups.values():
        told = [layouts[name] for name in group if name in layouts]
        if given & set(group):
            for name in group:
                layouts.pop(name, None)
        elif told:
            layouts |= dict.fromkeys(group, told[0])


class _Moves:
    def __init__(self, network: Network, layouts: dict[str, Layout]) -> None:
        self._network, self._layouts = network, layouts
        self._nodes = {node.name: node for node in network.nodes}

    def is_move(self, node: Node) -> bool:
        return node.opcode in MOVEMENT and node.type.role == "map"

    def is_needed(self, name: str) -> bool:
        """Whether something other than a movement reads a value."""
        readers = self._network.users[name]
        is_read = any(not self.is_move(reader) for reader in readers)
        return is_read or name in self._network.outputs

    def settled(self, node: Node) -> Node:
        """The movement as alias, view or move of the value that it starts from."""
        source, steps = self._chain(node.name)
        operands = (source,)
        if self._is_in_place(source, steps):
            return Node(node.name, ALIAS, operands, (), node.type)
        readers = self._network.users[node.name]
        stored = any(reader.opcode in _WANT_STORED for reader in readers)
        if stored or node.name in self._network.outputs:
            attributes = (("steps", steps),)
            return Node(node.name, "move", operands, attributes, node.type)
        self._layouts[node.name] = Seen(
            tuple(range(node.type.rank)), source=source, steps=steps
        )
        return Node(node.name, VIEW, operands, (), node.type)

    def _chain(self, name: str) -> tuple[str, tuple[Node, ...]]:
        """The value that a movement starts from, and the steps to it."""
        steps: list[Node] = []
        while name in self._nodes and self.is_move(self._nodes[name]):
            steps.insert(0, self._nodes[name])
            name = steps[0].operands[0]
        return name, tuple(steps)

    def _layout(self, name: str) -> Layout:
        return self._layouts.get(name) or inside(self._network.types[name])

    def _is_in_place(self, source: str, steps: tuple[Node, ...]) -> bool:
        """Whether every number stays where it is."""
        shape, layout = concrete(self._network.types[source]), self._layout(source)
        places: Array = np.arange(np.prod(shape)).reshape(layout.stored(shape))
        places = places.transpose(layout.logical(range(len(shape))))
        for step in steps:
            places = _MOVE[step.opcode](places, step.attrs)
        stored = places.transpose(self._layout(steps[-1].name).order).ravel()
        return np.array_equal(stored, np.arange(np.prod(shape)))


def _slice(x: Array, attributes: Mapping[str, int]) -> Array:
    start, step, size = (attributes[key] for key in ("start", "step", "size"))
    taken = start + step * np.arange(size)
    return np.take(x, taken, axis=attributes["axis"])


_MOVE: dict[str, Callable[..., Array]] = {
    "reshape": lambda x, attributes: x.reshape(attributes["shape"]),
    "transpose": lambda x, attributes: x.transpose(attributes["axes"]),
    "slice": _slice,
    "expand": lambda x, attributes: np.broadcast_to(x, attributes["shape"]),
}
