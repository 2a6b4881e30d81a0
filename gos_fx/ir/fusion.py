"""Kernels: the groups of instructions that become one loop nest.

The code generator and the latency model both see a concrete graph as the list of
kernels that :func:`partition` gives, so they speak of the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass

from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.network import Network

SCHEDULE = ("tile", "unroll")
AGGREGATIONS = ("sum", "mean", "weighted_mean")
_ELEMENTWISE = frozenset(
    ("add", "sub", "hadamard", "div", "sqrt", "exp", "relu", "sigmoid", "tanh")
)


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
    )


def is_elementwise(node: Node) -> bool:
    return node.opcode in _ELEMENTWISE or (
        node.opcode in ("sum", "mean", "max", "min") and not node.attr("axis")
    )


def partition(graph: Graph | Network) -> tuple[Kernel, ...]:
    """The kernels of a concrete graph or network in the order of execution.

    Values computed from weights alone are kernels too; they are folded at compile
    time. A kernel takes in an element-wise instruction when that is the only reader
    of what it leaves behind, and when all other operands were there before it began.
    """
    kernels: list[_Growing] = []
    owner: dict[str, _Growing] = {}
    ready = {v.name: -1 for v in graph.inputs}
    for node in graph.nodes:
        if node.opcode in SCHEDULE:
            source = node.operands[0]
            home = owner.get(source)
            if home is not None:
                home.take_schedule(node)
                owner[node.name] = home
                ready[node.name] = ready[source]
            continue
        home = _home(graph, node, owner, ready)
        if home is None:
            home = _Growing(len(kernels))
            kernels.append(home)
        home.nodes.append(node)
        home.output = node.name
        owner[node.name] = home
        ready[node.name] = home.index
    return tuple(kernel.freeze() for kernel in kernels)


class _Growing:
    def __init__(self, index: int) -> None:
        self.index = index
        self.nodes: list[Node] = []
        self.alias: dict[str, str] = {}
        self.output = ""
        self.tile: dict[str, int] = {}
        self.unroll: dict[str, int] = {}

    def take_schedule(self, node: Node) -> None:
        sizes = self.tile if node.opcode == "tile" else self.unroll
        sizes.update(node.attributes)
        self.alias[node.name] = node.operands[0]
        self.output = node.name

    def freeze(self) -> Kernel:
        inside = {node.name for node in self.nodes} | set(self.alias)
        inputs = dict.fromkeys(
            o for node in self.nodes for o in node.operands if o not in inside
        )
        return Kernel(
            anchor=self.nodes[0],
            nodes=tuple(self.unaliased(node) for node in self.nodes),
            inputs=tuple(inputs),
            output=self.output,
            tile=tuple(sorted(self.tile.items())),
            unroll=tuple(sorted(self.unroll.items())),
        )

    def unaliased(self, node: Node) -> Node:
        def resolve(name: str) -> str:
            while name in self.alias:
                name = self.alias[name]
            return name

        operands = tuple(resolve(name) for name in node.operands)
        return Node(node.name, node.opcode, operands, node.attributes, node.type)


def _home(
    graph: Graph | Network,
    node: Node,
    owner: dict[str, _Growing],
    ready: dict[str, int],
) -> _Growing | None:
    """The kernel that ``node`` can be fused into, if there is one."""
    outputs = graph.outputs if isinstance(graph, Network) else (graph.output,)
    for operand in node.operands:
        home = owner.get(operand)
        if home is None or home.output != operand or len(graph.users[operand]) > 1:
            continue
        if operand in outputs:
            continue
        if graph.types[operand].role != node.type.role:
            continue
        last = home.nodes[-1]
        if len(home.nodes) == 1 and aggregates_channels(home.unaliased(node), last):
            return home
        if last.opcode in ("cross_correlation", "reshape", "transpose"):
            continue
        others = [o for o in node.operands if o != operand]
        if (
            is_elementwise(node)
            and node.type.shape == graph.types[operand].shape
            and all(ready[o] < home.index for o in others)
        ):
            return home
    return None
