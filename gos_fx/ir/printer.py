"""Graph -> text in Python's syntax; :mod:`gos_fx.ir.parser` is its inverse."""

from __future__ import annotations

from typing import Any

from gos_fx.ir.graph import Graph, Input


def print_graph(graph: Graph) -> str:
    """One ``def`` per graph: feature maps, behind the star weights, then instructions.

    A weight's default is its projection; without one it is the original operator's.
    """
    maps = [_input(value) for value in graph.maps]
    weights = [_input(value) for value in graph.weights]
    inputs = ", ".join([*maps, *(["*", *weights] if weights else [])])
    lines = [f"def {graph.name}({inputs}) -> {graph.result}:"]
    for node in graph.nodes:
        arguments = [*node.operands]
        arguments += [f"{key}={_literal(value)}" for key, value in node.attributes]
        lines.append(f"    {node.name} = {node.opcode}({', '.join(arguments)})")
    lines.append(f"    return {graph.output}")
    return "\n".join(lines)


def _input(value: Input) -> str:
    default = "" if value.init is None else f" = {value.init}"
    return f"{value.name}: {value.type}{default}"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return repr(value).replace("'", '"')
    if isinstance(value, tuple):
        inner = ", ".join(_literal(item) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return str(value)
