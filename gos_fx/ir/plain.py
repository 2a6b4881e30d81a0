"""A concrete graph as plain data, whatever its opcodes.

The text form of a graph looks every instruction up. Kernels of networks also hold
opcodes that only the code generator knows, so here types are written down.
"""

from __future__ import annotations

from typing import Any

from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.types import Type


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """Numbers, strings, lists and dicts only. Projections of weights are left out."""
    return {
        "name": graph.name,
        "inputs": [[v.name, _type_to_json(v.type)] for v in graph.inputs],
        "nodes": [
            [n.name, n.opcode, n.operands, n.attributes, _type_to_json(n.type)]
            for n in graph.nodes
        ],
        "output": graph.output,
    }


def graph_from_json(data: Any) -> Graph:
    """Inverse of :func:`graph_to_json`, also behind ``json``; nothing is verified."""
    return Graph(
        data["name"],
        tuple(Input(name, _type(type)) for name, type in data["inputs"]),
        tuple(
            Node(name, opcode, tuple(operands), _tuples(attributes), _type(type))
            for name, opcode, operands, attributes, type in data["nodes"]
        ),
        data["output"],
    )


def _type_to_json(value: Type) -> list[Any]:
    return [value.role, value.shape, value.dtype]


def _type(data: Any) -> Type:
    role, shape, dtype = data
    return Type(role, tuple(shape), dtype)


def _tuples(value: Any) -> Any:
    """JSON knows no tuples, attributes no lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
