"""Graph -> text in Python's syntax; :mod:`gos_fx.ir.parser` is its inverse."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent
from typing import Any

from gos_fx.ir.graph import Graph, Input, Node


def print_graph(graph: Graph) -> str:
    """One ``def`` per graph: feature maps, behind the star weights, then instructions.

    A weight's default is its projection; without one it is the original operator's.
    The body of a scan is a nested ``def``.
    """
    return _print(graph, graph.name)


def _print(graph: Graph, name: str) -> str:
    maps = [parameter(value) for value in graph.maps]
    weights = [parameter(value) for value in graph.weights]
    inputs = ", ".join([*maps, *(["*", *weights] if weights else [])])
    lines = [f"def {name}({inputs}) -> {graph.result}:"]
    bodies = body_names(graph)
    for body, its_name in bodies.items():
        lines.append(indent(_print(body, its_name), "    "))
    for node in graph.nodes:
        listed = ", ".join(arguments(node, bodies))
        lines.append(f"    {node.name} = {node.opcode}({listed})")
    lines.append(f"    return {graph.output}")
    return "\n".join(lines)


def body_names(graph: Graph) -> dict[Graph, str]:
    """Bodies of scans under the names by which the text calls them.

    Values and earlier bodies keep their names; a body called like one gets a number.
    """
    taken = set(graph.types)
    names: dict[Graph, str] = {}
    for body in graph.bodies:
        if body in names:
            continue
        name, index = body.name, 1
        while name in taken:
            name, index = f"{body.name}_{index}", index + 1
        names[body] = name
        taken.add(name)
    return names


def arguments(node: Node, bodies: Mapping[Graph, str]) -> list[str]:
    """Operands and attributes of an instruction as they stand in its call."""
    found = [*node.operands]
    for key, value in node.attributes:
        text = bodies[value] if isinstance(value, Graph) else literal(value)
        found.append(f"{key}={text}")
    return found


def parameter(value: Input) -> str:
    """An input as it stands in a signature."""
    default = "" if value.init is None else f" = {value.init}"
    return f"{value.name}: {value.type}{default}"


def literal(value: Any) -> str:
    """The value of an attribute as it stands in a call."""
    if isinstance(value, str):
        return repr(value).replace("'", '"')
    if isinstance(value, tuple):
        inner = ", ".join(literal(item) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return str(value)
