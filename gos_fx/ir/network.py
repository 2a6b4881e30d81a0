"""Several operators in one order of execution, with every size known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.types import Type


@dataclass(frozen=True)
class Network:
    """What is compiled as a whole: the instructions of all operators, inlined.

    Unlike a :class:`~gos_fx.ir.graph.Graph` it has any number of outputs and no
    bounds, and its nodes may have opcodes that only the code generator knows.

    Attributes:
        owners: path of the operator that each node came from.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    owners: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph) -> Network:
        """A concrete graph as a network of one operator."""
        owners = {node.name: graph.name for node in graph.nodes}
        return Network(graph.inputs, graph.nodes, (graph.output,), owners)

    @cached_property
    def types(self) -> dict[str, Type]:
        """Type of every value by name."""
        values: tuple[Input | Node, ...] = (*self.inputs, *self.nodes)
        return {v.name: v.type for v in values}

    @cached_property
    def users(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.nodes:
            for operand in dict.fromkeys(node.operands):
                found[operand].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}
