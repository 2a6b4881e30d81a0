"""Edits of batch norm."""

from __future__ import annotations

from gos_fx.evolve.mutations.hyperparameter import source, trained_weight
from gos_fx.evolve.mutations.table import Site, mutation
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.projection import Projection
from gos_fx.ir.rewriter import Editor, Refusal, replace_node
from gos_fx.ir.types import Type


def _node(graph: Graph, name: str, opcode: str) -> Node | None:
    """The instruction that gives a value, if it is of this kind."""
    node = graph.by_name.get(name)
    return node if node is not None and node.opcode == opcode else None


def _normalised(graph: Graph, product: Node) -> tuple[Node, Input, Input | None] | None:
    """Of ``((x - mean) / sqrt(var)) * gain``: the difference, the gain, and the
    variance where that is an input."""
    if product.opcode != "hadamard":
        return None
    gain = trained_weight(graph, product.operands[1])
    quotient = _node(graph, product.operands[0], "div")
    if gain is None or quotient is None:
        return None
    difference = _node(graph, quotient.operands[0], "sub")
    root = _node(graph, quotient.operands[1], "sqrt")
    if difference is None or root is None:
        return None
    variances = {v.name: v for v in graph.weights}
    return difference, gain, variances.get(root.operands[0])


def _products(graph: Graph) -> tuple[Site, ...]:
    return tuple(
        Site(node.name) for node in graph.nodes if _normalised(graph, node) is not None
    )


@mutation(_products, exact=True)
def polynomial_batch_norm(graph: Graph, site: Site) -> Graph | Refusal:
    """(x-mu)/s g -> (x-mu)/s alpha (x-mu)^3 + beta (x-mu), with the shift behind it
    the paper's polynomial (Table 3): alpha starts at 0 and beta at g / s.

    The deviation s is the batch norm's own, sqrt(variance + eps).
    """
    found = _normalised(graph, graph.by_name[site.node])
    assert found is not None
    difference, gain, variance = found
    if variance is None:
        return Refusal("the variance is no weight")
    quotient = graph.by_name[site.node].operands[0]
    size = Projection("zeros", (), (("size", gain.type.shape[0]),))
    slope = Projection("over_deviation", (source(gain), source(variance)))

    def build(b: Editor, v: tuple[str, ...]) -> str:
        x = b.value(difference.name)
        cube = b.emit("hadamard", b.emit("hadamard", x, x), x)
        alpha = b.weight(Type("weight", gain.type.shape), size)
        term = b.emit("hadamard", b.value(quotient), b.emit("hadamard", cube, alpha))
        beta = b.weight(Type("weight", gain.type.shape), slope)
        return b.emit("add", term, b.emit("hadamard", x, beta))

    return replace_node(graph, site.node, build)
