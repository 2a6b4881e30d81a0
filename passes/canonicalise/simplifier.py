"""Copies a graph instruction by instruction, each through the rules and only once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from gos_fx.ir.dim import Dim
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.types import ROLES, Type
from gos_fx.passes.canonicalise.constants import fold_numbers
from gos_fx.passes.canonicalise.rule import RULES, Match

# The order of the operands changes no more than a rounding.
COMMUTATIVE = ("add", "hadamard", "chain_rule", "sum", "mean", "max", "min", "dot")
# Loops and sizes by kind of schedule node.
Schedule = dict[str, dict[str, Dim]]


class Simplifier:
    """Values under new names; equal ones are one value.

    Schedule nodes are no instructions here: ``schedules`` has the tile and the unroll
    of a value. Two values that are equal but for them stay two.
    """

    def __init__(self, simplify_body: Callable[[Graph], Graph]) -> None:
        self.types: dict[str, Type] = {}
        self.nodes: list[Node] = []
        self.schedules: dict[str, Schedule] = {}
        self._simplify_body = simplify_body
        self._by_name: dict[str, Node] = {}
        self._known: dict[Any, list[str]] = {}
        self._keys: dict[str, str] = {}
        self._depths: dict[str, int] = {}
        self._labels: dict[str, str] = {}  # of inputs

    def run(self, graph: Graph) -> str:
        """The name of the graph's output here."""
        wanted = schedules_of(graph)
        renamed: dict[str, str] = {}
        for value in graph.inputs:
            renamed[value.name] = self._input(value)
        for node in graph.nodes:
            operands = tuple(renamed[name] for name in node.operands)
            if node.declaration.schedule:
                renamed[node.name] = operands[0]
                continue
            schedule = wanted.get(node.name, {})
            found = self._emit(node.opcode, operands, node.attrs, schedule)
            renamed[node.name] = found
            if found in self._by_name:
                for kind, loops in schedule.items():
                    self.schedules.setdefault(found, {}).setdefault(kind, loops)
        return renamed[graph.output]

    def node(self, name: str) -> Node | None:
        return self._by_name.get(name)

    def emit(
        self, opcode: str, operands: tuple[str, ...], attributes: Mapping[str, Any]
    ) -> str:
        """The value of an instruction, simplified."""
        return self._emit(opcode, operands, attributes, {})

    def _emit(
        self,
        opcode: str,
        operands: tuple[str, ...],
        attributes: Mapping[str, Any],
        schedule: Schedule,
    ) -> str:
        attributes = {
            key: self._simplify_body(value) if isinstance(value, Graph) else value
            for key, value in attributes.items()
        }
        if opcode in COMMUTATIVE and len(operands) > 1:
            operands = tuple(sorted(operands, key=self._place))
        inferred = OPCODES[opcode].infer([self.types[o] for o in operands], attributes)
        match = Match(self, opcode, operands, attributes, inferred)
        for apply in (fold_numbers, *RULES.get(opcode, ())):
            found = apply(match)
            if found is not None and self.types[found] == inferred:
                return found
        same = self._known.setdefault((opcode, operands, tuple(attributes.items())), [])
        for name in same:
            if _agree(self.schedules.get(name, {}), schedule):
                return name
        ordered = tuple(attributes.items())
        node = Node(f"v{len(self.nodes)}", opcode, operands, ordered, inferred)
        self.nodes.append(node)
        same.append(node.name)
        self._by_name[node.name] = node
        text = ", ".join(f"{k}={_text(v)}" for k, v in ordered)
        parts = [opcode, text, *(self._keys[o] for o in operands)]
        depth = 1 + max((self._depths[o] for o in operands), default=0)
        self._define(node.name, inferred, parts, depth)
        return node.name

    def _input(self, value: Input) -> str:
        """Inputs get names that no node has; those of the graph come back later."""
        # New weights are named by their order of use, which is not yet known.
        what = value.name if value.init is None else f"{value.type} = {value.init}"
        name = f"input {value.name}"
        self._define(name, value.type, ["input", what], 0)
        self._labels[name] = what
        return name

    def _define(self, name: str, type: Type, parts: list[str], depth: int) -> None:
        self.types[name] = type
        self._keys[name] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self._depths[name] = depth

    def _place(self, name: str) -> tuple[int, int, str]:
        """Maps before weights before numbers, what was computed last first."""
        role = ROLES.index(self.types[name].role)
        return role, -self._depths[name], self._labels.get(name, self._keys[name])


def schedules_of(graph: Graph) -> dict[str, Schedule]:
    """Tiles and unrolls of each value."""
    steered: dict[str, str] = {}
    found: dict[str, Schedule] = {}
    for node in graph.nodes:
        if node.declaration.schedule:
            source = steered.get(node.operands[0], node.operands[0])
            steered[node.name] = source
            found.setdefault(source, {})[node.opcode] = dict(sorted(node.attributes))
    return found


def _agree(a: Schedule, b: Schedule) -> bool:
    """Whether one value can have both."""
    return all(a.get(kind, loops) == loops for kind, loops in b.items())


def _text(value: Any) -> str:
    return value.digest if isinstance(value, Graph) else repr(value)
