"""Edits: every function gives a new graph, typed anew and in canonical form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gos_fx.ir.builder import Builder
from gos_fx.ir.dim import Dim, Expr, combine
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.loops import loops_of
from gos_fx.ir.projection import Projection
from gos_fx.ir.types import Type


@dataclass(frozen=True)
class Refusal:
    """Why an edit was not made. A refusal has a reason; an exception is a bug."""

    reason: str


class Editor(Builder):
    """A builder that copies a graph and can make new weights on the way.

    ``renamed`` leads from the names of the copied graph to those here.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.renamed: dict[str, str] = {}

    def value(self, name: str) -> str:
        """What a value of the copied graph is called here."""
        return self.renamed.get(name, name)

    def weight(self, type: Type, init: Projection) -> str:
        """A new weight filled by a projection; its name is made canonical later."""
        index = 0
        while f"w_{index}" in self.types:
            index += 1
        return self.input(f"w_{index}", type, init)

    def copy(self, node: Node, renamed: Mapping[str, str]) -> str:
        operands = [renamed.get(name, name) for name in node.operands]
        return self.emit(node.opcode, *operands, **node.attrs)


Build = Callable[[Editor, tuple[str, ...]], str]


def replace_node(graph: Graph, name: str, build: Build) -> Graph:
    """``graph`` with one instruction replaced by what ``build`` emits.

    ``build(editor, operands)`` gets the instruction's operands and returns the value
    that takes its place.

    Raises:
        VerifyError: what follows does not take the new value.
    """
    editor = Editor(graph.name)
    renamed = editor.renamed
    for value in graph.inputs:
        editor.input(value.name, value.type, value.init)
    for node in graph.nodes:
        if node.name == name:
            operands = tuple(renamed.get(o, o) for o in node.operands)
            renamed[node.name] = build(editor, operands)
        else:
            renamed[node.name] = editor.copy(node, renamed)
    return prune(editor.build(renamed.get(graph.output, graph.output)))


def insert_after(graph: Graph, name: str, build: Build) -> Graph:
    """``graph`` with ``build(editor, (value,))`` between a value and its readers."""
    editor = Editor(graph.name)
    renamed = editor.renamed
    for value in graph.inputs:
        editor.input(value.name, value.type, value.init)
    if name not in graph.by_name:
        renamed[name] = build(editor, (name,))
    for node in graph.nodes:
        renamed[node.name] = editor.copy(node, renamed)
        if node.name == name:
            renamed[name] = build(editor, (renamed[name],))
    return prune(editor.build(renamed.get(graph.output, graph.output)))


def ancestors(graph: Graph) -> dict[str, frozenset[str]]:
    """The values that each value depends on."""
    found: dict[str, frozenset[str]] = {v.name: frozenset() for v in graph.inputs}
    for node in graph.nodes:
        found[node.name] = frozenset(node.operands).union(
            *(found[operand] for operand in node.operands)
        )
    return found


def hoist(graph: Graph, name: str) -> Graph:
    """The same graph with a value, and what it depends on, in front of all else."""
    first = ancestors(graph)[name] | {name}
    nodes = sorted(graph.nodes, key=lambda node: node.name not in first)
    return replace(graph, nodes=tuple(nodes))


def splice(a: Graph, u: str, b: Graph, v: str) -> Graph:
    """The part of ``a`` that ends at ``u``, then the part of ``b`` that reads ``v``.

    Other operands of the second part bring their ancestors in ``b``. Weights of equal
    type and projection become one.
    """
    editor = Editor(a.name)
    inputs = {value.name: value for value in a.inputs}
    for value in a.inputs:
        editor.input(value.name, value.type, value.init)
    first: dict[str, str] = {}
    for node in a.nodes:
        first[node.name] = editor.copy(node, first)
        if node.name == u:
            break
    renamed = {v: first.get(u, u)}
    for value in b.inputs:
        if value.name == v:
            continue
        twin = _same_input(inputs, value)
        if twin is None and value.name in editor.types:
            assert value.init is not None
            renamed[value.name] = editor.weight(value.type, value.init)
        else:
            renamed[value.name] = twin or editor.input(
                value.name, value.type, value.init
            )
    for node in b.nodes:
        if node.name != v:
            renamed[node.name] = editor.copy(node, renamed)
    return prune(editor.build(renamed.get(b.output, b.output)))


def prune(graph: Graph) -> Graph:
    """Without what does not reach the output; weights in order of use.

    New weights are named w1, w2, ... in that order, so that equal graphs have equal
    text whatever edits led to them. Schedule nodes forget the loops that an edit took
    away from them.
    """
    graph = _without_lost_loops(graph)
    needed = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.operands)
    nodes = tuple(node for node in graph.nodes if node.name in needed)
    maps = [value for value in graph.inputs if value.type.role == "map"]
    used = dict.fromkeys(o for node in nodes for o in node.operands)
    weights = {v.name: v for v in graph.weights if v.name in needed}
    ordered = [weights[name] for name in used if name in weights]
    taken = {value.name for value in graph.inputs if value.init is None}
    names: dict[str, str] = {}
    index = 1
    for value in ordered:
        if value.init is not None:
            while f"w{index}" in taken:
                index += 1
            names[value.name] = f"w{index}"
            index += 1
    inputs = [replace(v, name=names.get(v.name, v.name)) for v in (*maps, *ordered)]
    nodes = tuple(
        replace(node, operands=tuple(names.get(o, o) for o in node.operands))
        for node in nodes
    )
    return Graph(graph.name, tuple(inputs), nodes, graph.output).renumbered()


def _without_lost_loops(graph: Graph) -> Graph:
    """An instruction put in front of a schedule node leaves it other loops."""
    loops = loops_of(graph)
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        operands = tuple(renamed.get(name, name) for name in node.operands)
        attributes = node.attributes
        if node.declaration.schedule:
            attributes = tuple(a for a in attributes if a[0] in loops[node.name])
            if not attributes:
                renamed[node.name] = operands[0]
                continue
        nodes.append(replace(node, operands=operands, attributes=attributes))
    output = renamed.get(graph.output, graph.output)
    return replace(graph, nodes=tuple(nodes), output=output)


def substitute_dim(graph: Graph, old: Dim, new: Dim) -> Graph:
    """``graph`` with one size expression exchanged for another everywhere."""

    def change(value: Any) -> Any:
        if value == old and not isinstance(value, bool):
            return new
        if isinstance(value, tuple):
            return tuple(change(item) for item in value)
        if isinstance(value, Expr) and value.op != "symbol":
            a, b = value.args
            return combine(value.op, change(a), change(b))
        if isinstance(value, Type):
            parts = tuple(change(part) for part in value.parts)
            return replace(value, shape=change(value.shape), parts=parts)
        if isinstance(value, Graph):
            return substitute_dim(value, old, new)
        if isinstance(value, Projection):
            return replace(
                value,
                sources=change(value.sources),
                parameters=tuple((k, change(v)) for k, v in value.parameters),
            )
        return value

    editor = Editor(graph.name)
    for value in graph.inputs:
        editor.input(value.name, change(value.type), change(value.init))
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        attributes = tuple((key, change(value)) for key, value in node.attributes)
        renamed[node.name] = editor.copy(replace(node, attributes=attributes), renamed)
    return prune(editor.build(renamed.get(graph.output, graph.output)))


def _same_input(inputs: Mapping[str, Input], value: Input) -> str | None:
    for name, other in inputs.items():
        if (other.type, other.init) == (value.type, value.init) and (
            value.init is not None or name == value.name
        ):
            return name
    return None
