"""The loops of an instruction by name: what a tile or an unroll may speak of."""

from __future__ import annotations

from gos_fx.ir.fusion import is_elementwise
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.types import AXES

LOOPS = ("n", "t", "co", "ho", "wo", "ci", "kh", "kw")


def loops_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Names of the loops around one element of each instruction's result.

    They are the axes of the result, ``ci`` where an instruction sums products or
    aggregates an axis, ``kh`` and ``kw`` where it has a window. What becomes part of
    another instruction's loops (the aggregation of its maps, element-wise instructions
    behind it) has those too.
    """
    found: dict[str, frozenset[str]] = {}
    for node in graph.nodes:
        if node.declaration.schedule:
            found[node.name] = found.get(node.operands[0], frozenset())
            continue
        loops = _own(node)
        for operand in node.operands:
            if operand in found and _joins(graph, node, operand):
                loops |= found[operand]
        found[node.name] = loops
    return {
        name: tuple(loop for loop in LOOPS if loop in loops)
        for name, loops in found.items()
    }


def _own(node: Node) -> frozenset[str]:
    loops = frozenset(AXES.get(node.type.rank, ()))
    if node.declaration.window is not None:
        return loops | {"kh", "kw"}
    if node.opcode == "matmul" or _aggregates(node):
        return loops | {"ci"}
    return loops


def _aggregates(node: Node) -> bool:
    """Whether an axis of the first operand disappears."""
    return node.declaration.category == "aggregation" and bool(node.attrs.get("axis"))


def _joins(graph: Graph, node: Node, operand: str) -> bool:
    """Whether an instruction may share the loops of one that it reads."""
    if _aggregates(node):
        return bool(node.attr("axis") == "ci")
    return is_elementwise(node) and graph.types[operand].shape == node.type.shape
