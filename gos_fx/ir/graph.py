"""Graphs of instructions: frozen SSA values.

A graph whose sizes have symbols is a *template* and serves every similar site; one
without symbols is *concrete*. Both are the same class, text and hash included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gos_fx.errors import VerifyError
from gos_fx.ir.dim import Dim, Expr, substitute
from gos_fx.ir.opcode import OPCODES, Opcode
from gos_fx.ir.projection import Projection
from gos_fx.ir.types import Type


@dataclass(frozen=True)
class Input:
    """A feature map, or a weight with the projection that fills it at each site.

    A weight without projection is one of the original operator's own, by its name.
    """

    name: str
    type: Type
    init: Projection | None = None


@dataclass(frozen=True)
class Node:
    """The result of one instruction."""

    name: str
    opcode: str
    operands: tuple[str, ...]
    attributes: tuple[tuple[str, Any], ...]
    type: Type

    @property
    def declaration(self) -> Opcode:
        return OPCODES[self.opcode]

    @property
    def attrs(self) -> dict[str, Any]:
        return dict(self.attributes)

    def attr(self, name: str) -> Any:
        """Value of an attribute; raises ``KeyError`` where it is absent."""
        return self.attrs[name]


@dataclass(frozen=True)
class Graph:
    """``name(inputs) -> output``, nodes in topological order."""

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    output: str

    @cached_property
    def types(self) -> dict[str, Type]:
        """Type of every value by name."""
        values: tuple[Input | Node, ...] = (*self.inputs, *self.nodes)
        return {v.name: v.type for v in values}

    @property
    def result(self) -> Type:
        return self.types[self.output]

    @cached_property
    def by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def users(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.nodes:
            for operand in dict.fromkeys(node.operands):
                found[operand].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @property
    def maps(self) -> tuple[Input, ...]:
        return tuple(v for v in self.inputs if v.type.role == "map")

    @property
    def weights(self) -> tuple[Input, ...]:
        """Inputs that are not feature maps: weights and constants."""
        return tuple(v for v in self.inputs if v.type.role != "map")

    @cached_property
    def symbols(self) -> frozenset[str]:
        found = frozenset().union(*(t.symbols for t in self.types.values()))
        return found.union(*(body.symbols for body in self.bodies))

    @property
    def bodies(self) -> tuple[Graph, ...]:
        """The graphs that its scans repeat."""
        return tuple(
            value
            for node in self.nodes
            for _, value in node.attributes
            if isinstance(value, Graph)
        )

    @property
    def is_concrete(self) -> bool:
        return not self.symbols

    @cached_property
    def text(self) -> str:
        from gos_fx.ir.printer import print_graph

        return print_graph(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the text: the same in every process, unlike ``hash``."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __str__(self) -> str:
        return self.text

    def without_schedule(self) -> Graph:
        """The graph without its tile and unroll nodes: what it computes."""
        renamed: dict[str, str] = {}
        nodes = []
        for node in self.nodes:
            operands = tuple(renamed.get(name, name) for name in node.operands)
            if node.declaration.schedule:
                renamed[node.name] = operands[0]
                continue
            attributes = tuple(
                (key, value.without_schedule() if isinstance(value, Graph) else value)
                for key, value in node.attributes
            )
            nodes.append(replace(node, operands=operands, attributes=attributes))
        output = renamed.get(self.output, self.output)
        return Graph(self.name, self.inputs, tuple(nodes), output).renumbered()

    def renumbered(self) -> Graph:
        """Nodes named v0, v1, ... in order, so that equal graphs have equal text.

        Bodies of scans have the names by which the text calls them.
        """
        names = {node.name: f"v{i}" for i, node in enumerate(self.nodes)}
        nodes = tuple(
            replace(
                node,
                name=names[node.name],
                operands=tuple(names.get(name, name) for name in node.operands),
            )
            for node in self.nodes
        )
        output = names.get(self.output, self.output)
        found = Graph(self.name, self.inputs, nodes, output)
        return found._with_named_bodies() if found.bodies else found

    def _with_named_bodies(self) -> Graph:
        from gos_fx.ir.printer import body_names

        names = body_names(self)

        def named(value: Any) -> Any:
            is_body = isinstance(value, Graph)
            return replace(value, name=names[value]) if is_body else value

        nodes = tuple(
            replace(
                node, attributes=tuple((key, named(v)) for key, v in node.attributes)
            )
            for node in self.nodes
        )
        return replace(self, nodes=nodes)

    def instantiate(self, bindings: Mapping[str, int]) -> Graph:
        """The concrete graph of one site, paddings solved.

        Raises:
            VerifyError: a size is unbound, not positive, or an instruction does not
                take the sizes of this site.
        """
        inputs = tuple(
            Input(v.name, v.type.substitute(bindings), v.init) for v in self.inputs
        )
        types = {v.name: v.type for v in inputs}
        for name, found in types.items():
            self._check_sizes(name, found)
        nodes = []
        for node in self.nodes:
            operand_types = [types[name] for name in node.operands]
            concrete = _instantiate_node(node, operand_types, bindings)
            self._check_sizes(node.name, concrete.type)
            types[node.name] = concrete.type
            nodes.append(concrete)
        return Graph(self.name, inputs, tuple(nodes), self.output)

    def _check_sizes(self, name: str, found: Type) -> None:
        sizes = [dim for value in found.values for dim in value.shape]
        bad = [d for d in sizes if not isinstance(d, int) or d < 1]
        if bad:
            raise VerifyError(f"size {bad[0]} of {name}: {found}", where=self.name)


def substitute_attribute(value: Any, bindings: Mapping[str, Dim]) -> Any:
    """An attribute value with its symbols bound; the body of a scan at its site."""
    if isinstance(value, Graph):
        return value.instantiate(bindings)  # type: ignore[arg-type]
    if isinstance(value, tuple):
        return tuple(substitute_attribute(item, bindings) for item in value)
    return substitute(value, bindings) if isinstance(value, Expr) else value


def _instantiate_node(
    node: Node, operand_types: list[Type], bindings: Mapping[str, int]
) -> Node:
    attributes = {
        key: substitute_attribute(value, bindings) for key, value in node.attributes
    }
    result = node.type.substitute(bindings)
    window = node.declaration.window
    if window is not None and "padding" not in attributes:
        kernel, dilation = window(*operand_types, **attributes)
        attributes["padding"] = solve_padding(
            source=operand_types[0].shape[-2:],  # type: ignore[arg-type]
            result=result.shape[-2:],  # type: ignore[arg-type]
            kernel=kernel,  # type: ignore[arg-type]
            dilation=dilation,  # type: ignore[arg-type]
            stride=attributes["stride"],
            site_strided=[isinstance(s, Expr) for s in node.attr("stride")],
            bindings=bindings,
        )
    if node.declaration.schedule:
        attributes = {k: max(1, v) for k, v in attributes.items()}
    inferred = node.declaration.infer(operand_types, attributes)
    if not _same_shapes(inferred, result):
        raise VerifyError(
            f"{node.opcode} gives {inferred} where the template says {result}",
            where=node.name,
        )
    return replace(node, attributes=tuple(attributes.items()), type=result)


def _same_shapes(a: Type, b: Type) -> bool:
    return [v.shape for v in a.values] == [v.shape for v in b.values]


def solve_padding(
    *,
    source: tuple[int, int],
    result: tuple[int, int],
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    stride: tuple[int, int],
    site_strided: Sequence[bool],
    bindings: Mapping[str, int],
) -> tuple[int, int, int, int]:
    """``(top, bottom, left, right)`` that gives the output size (negative: crop).

    A window that moves by the site's own stride keeps its centre where the original
    kernel had it: before = P + (d(k - 1) - D(K - 1)) / 2. Any other is centred.
    """
    sizes = [f"{size}_{name}" for size in "DKP" for name in "hw"]
    if any(site_strided) and (missing := set(sizes) - set(bindings)):
        raise VerifyError(f"size {min(missing)} is not bound")
    padding: list[int] = []
    for i, name in enumerate("hw"):
        reach = dilation[i] * (kernel[i] - 1) + 1
        total = (result[i] - 1) * stride[i] + reach - source[i]
        if site_strided[i]:
            original = bindings[f"D_{name}"] * (bindings[f"K_{name}"] - 1)
            before = bindings[f"P_{name}"] + (reach - 1 - original) // 2
        else:
            before = total // 2
        padding += [before, total - before]
    return padding[0], padding[1], padding[2], padding[3]
