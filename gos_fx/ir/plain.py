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
            [
                *(n.name, n.opcode, n.operands),
                [[key, _attribute_to_json(value)] for key, value in n.attributes],
                _type_to_json(n.type),
            ]
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
            Node(name, opcode, tuple(operands), _attributes(attributes), _type(type))
            for name, opcode, operands, attributes, type in data["nodes"]
        ),
        data["output"],
    )


def _type_to_json(value: Type) -> list[Any]:
    parts = [_type_to_json(part) for part in value.parts]
    return [value.role, value.shape, value.dtype, parts]


def _type(data: Any) -> Type:
    role, shape, dtype, parts = data
    return Type(role, tuple(shape), dtype, tuple(_type(part) for part in parts))


def _attribute_to_json(value: Any) -> Any:
    return {"body": graph_to_json(value)} if isinstance(value, Graph) else value


def _attributes(data: Any) -> Any:
    return tuple((key, _attribute(value)) for key, value in data)


def _attribute(value: Any) -> Any:
    """JSON knows no tuples, attributes no lists."""
    if isinstance(value, dict):
        return graph_from_json(value["body"])
    return tuple(map(_attribute, value)) if isinstance(value, list | tuple) else value
