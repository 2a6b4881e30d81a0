"""Kernels: the groups of instructions that become one loop nest.

The code generator and the latency model both see a concrete graph as the list of
kernels that :func:`partition` gives, so they speak of the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.immediates import inline_scalars
from gos_fx.ir.network import Network
from gos_fx.ir.opcode import OPCODES

SCHEDULE = ("tile", "unroll")
AGGREGATIONS = ("sum", "mean", "weighted_mean")
# Opcodes of networks alone: a value that its readers see in another value's memory, and
# one whose memory is another value's.
VIEW, ALIAS = "view", "alias"
_ELEMENTWISE = frozenset(
    (
        *("add", "sub", "hadamard", "div", "sqrt", "exp", "erf", "relu", "sigmoid"),
        *("tanh", "chain_rule"),
        # known to the code generator alone
        *("clip", "affine", "gelu", "silu", "absolute", "rsqrt", "reciprocal"),
    )
)
# Anchors of kernels that are another view of what is there.
NO_CODE = ("reshape", ALIAS, "result", "bundle")
# What nothing is fused behind: results that are not one element after the other.
_BARRIERS = ("cross_correlation", "transpose", "move", *NO_CODE)
# An epilogue that leaves several values open for longer than this is not looked for.
_LOOK_AHEAD = 16
# The code generator writes a value once for each time that it is read; so many are
# still few enough for a compiler to find that they are the same.
_MOST_COPIES = 16


@dataclass(frozen=True)
class Kernel:
    """One loop nest: an anchor, its aggregation, its element-wise epilogue.

    ``tile`` and ``unroll`` are the sizes of the schedule nodes found on its values.
    """

    anchor: Node
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    output: str
    tile: tuple[tuple[str, int], ...] = ()
    unroll: tuple[tuple[str, int], ...] = ()

    @property
    def is_summed(self) -> bool:
        """A cross-correlation whose maps are aggregated without being stored."""
        return (
            self.anchor.opcode == "cross_correlation"
            and len(self.nodes) > 1
            and aggregates_channels(self.nodes[1], self.anchor)
        )


def aggregates_channels(node: Node, maps: Node) -> bool:
    """Whether ``node`` sums (or averages) the maps of a cross-correlation."""
    return (
        node.opcode in AGGREGATIONS
        and node.operands[0] == maps.name
        and (len(node.operands) == 1 or node.opcode == "weighted_mean")
        and node.attrs.get("axis") == "ci"
        and not node.attrs.get("keep")
    )


def _ends(node: Node) -> bool:
    """Whether nothing is fused behind an instruction."""
    declaration = OPCODES.find(node.opcode)
    return node.opcode in _BARRIERS or (declaration is not None and declaration.opaque)


def is_elementwise(node: Node) -> bool:
    return node.opcode in _ELEMENTWISE or (
        node.opcode in ("sum", "mean", "max", "min") and not node.attr("axis")
    )


def partition(graph: Graph | Network) -> tuple[Kernel, ...]:
    """The kernels of a concrete graph or network in an order in which they can run.

    Values computed from weights alone are kernels too, the first ones; they are folded
    at compile time. A kernel takes in element-wise instructions when nothing else reads
    what they leave behind, and when all other operands are there before it begins. What
    it holds inside may be read several times.
    """
    return tuple(_Partition(graph).kernels())


class _Partition:
    def __init__(self, graph: Graph | Network) -> None:
        outputs = graph.outputs if isinstance(graph, Network) else (graph.output,)
        graph = replace(graph, nodes=inline_scalars(graph.nodes, outputs))
        self.graph = graph
        self.aliases = {
            node.name: node.operands[0]
            for node in graph.nodes
            if node.opcode in SCHEDULE
        }
        nodes = [node for node in graph.nodes if node.opcode not in SCHEDULE]
        self.order = {node.name: i for i, node in enumerate(nodes)}
        # Weights first, so that every map's kernel finds them there; not those that
        # were put together with maps.
        moving = {name for name, type in graph.types.items() if type.role == "map"}
        for node in graph.nodes:
            if not moving.isdisjoint(node.operands):
                moving.add(node.name)
        self.nodes = sorted(nodes, key=lambda node: node.name in moving)
        self.users: dict[str, list[Node]] = {name: [] for name in graph.types}
        for node in nodes:
            for name in {self.resolve(operand) for operand in node.operands}:
                self.users[name].append(node)
        self.outputs = {self.resolve(name) for name in outputs}
        self.ready = {value.name for value in graph.inputs}

    def resolve(self, name: str) -> str:
        """The value behind its schedule nodes."""
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def kernels(self) -> Iterable[Kernel]:
        taken: set[str] = set()
        for node in self.nodes:
            if node.name in taken:
                continue
            if node.opcode == VIEW:
                self.ready.add(node.name)
                continue
            members = self._grow(node)
            taken |= {member.name for member in members}
            self.ready.add(members[-1].name)
            yield self._freeze(members)

    def _grow(self, anchor: Node) -> list[Node]:
        members = [anchor]
        users = self.users[anchor.name]
        if len(users) == 1 and anchor.name not in self.outputs:
            (node,) = users
            if aggregates_channels(self._resolved(node), anchor) and self._joins(
                node, {anchor.name}
            ):
                members.append(node)
        copies = 1
        while not _ends(members[-1]):
            more = self._epilogue(members[-1])
            copies *= self._reads([members[-1], *more[:-1]], more)
            if not more or copies > _MOST_COPIES:
                break
            members += more
        return members

    def _reads(self, values: list[Node], readers: list[Node]) -> int:
        """How often the first value is written when each read writes it anew."""
        read = [self.resolve(name) for node in readers for name in node.operands]
        return prod(max(1, read.count(value.name)) for value in values)

    def _epilogue(self, last: Node) -> list[Node]:
        """The fewest instructions behind ``last`` that leave one value to be read."""
        region: list[Node] = []
        inside = {last.name}
        while len(region) < _LOOK_AHEAD:
            still_read = [name for name in inside if self._is_read(name, inside)]
            if region and still_read == [region[-1].name]:
                return region
            if any(name in self.outputs for name in still_read):
                return []
            readers = {
                user.name: user
                for name in still_read
                for user in self.users[name]
                if user.name not in inside
            }
            if not readers:
                return []
            node = min(readers.values(), key=lambda reader: self.order[reader.name])
            same = (
                node.type.shape == last.type.shape and node.type.role == last.type.role
            )
            if not (is_elementwise(node) and same and self._joins(node, inside)):
                return []
            region.append(node)
            inside.add(node.name)
        return []

    def _is_read(self, name: str, inside: set[str]) -> bool:
        """Whether something outside needs a value; nobody's value counts as needed."""
        users = self.users[name]
        outside = any(user.name not in inside for user in users)
        return outside or not users or name in self.outputs

    def _joins(self, node: Node, inside: set[str]) -> bool:
        operands = {self.resolve(operand) for operand in node.operands}
        return operands <= self.ready | inside

    def _resolved(self, node: Node) -> Node:
        return replace(node, operands=tuple(map(self.resolve, node.operands)))

    def _freeze(self, members: list[Node]) -> Kernel:
        inside = {member.name for member in members}
        nodes = []
        for member in members:
            operands = [
                self.resolve(name) if self.resolve(name) in inside else name
                for name in member.operands
            ]
            nodes.append(replace(member, operands=tuple(operands)))
        inputs = dict.fromkeys(
            name for node in nodes for name in node.operands if name not in inside
        )
        tile: dict[str, int] = {}
        unroll: dict[str, int] = {}
        output = members[-1].name
        for node in self.graph.nodes:
            if node.opcode in SCHEDULE and self.resolve(node.name) in inside:
                (tile if node.opcode == "tile" else unroll).update(node.attributes)
                if self.resolve(node.name) == members[-1].name:
                    output = node.name
        return Kernel(
            anchor=members[0],
            nodes=tuple(nodes),
            inputs=tuple(inputs),
            output=output,
            tile=tuple(sorted(tile.items())),
            unroll=tuple(sorted(unroll.items())),
        )
