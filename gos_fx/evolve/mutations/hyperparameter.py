"""Edits of an instruction's constants: kernel, dilation, groups, rank, slope."""

from __future__ import annotations

from typing import Any

from gos_fx.evolve.mutations.candidates import fits
from gos_fx.evolve.mutations.table import Site, mutation
from gos_fx.ir.dim import Dim, Expr, ceildiv, minimum
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.projection import Projection
from gos_fx.ir.rewriter import Editor, Refusal, replace_node, substitute_dim
from gos_fx.ir.types import Type

KERNELS = (1, 3, 5)
GROUPS = (2, 4, 8)
# Shares of the smaller channel count that a factorisation may keep, as k / 8.
EIGHTHS = (1, 2, 3, 4, 6)


def rank(a: Dim, b: Dim, eighths: int) -> Dim:
    """ceil(eighths / 8 * min(a, b))"""
    return ceildiv(minimum(a, b) * eighths, 8)


def trained_weight(graph: Graph, name: str) -> Input | None:
    """The weight input of this name, if that is what it is."""
    for value in graph.weights:
        if value.name == name and value.type.role == "weight":
            return value
    return None


def source(value: Input) -> Projection | str:
    """The projection that gives a weight; an original weight is its own."""
    return value.name if value.init is None else value.init


def correlations(graph: Graph) -> tuple[tuple[Node, Input], ...]:
    """Every cross-correlation with its weight input."""
    found = []
    for node in graph.nodes:
        if node.opcode == "cross_correlation":
            weight = trained_weight(graph, node.operands[1])
            if weight is not None:
                found.append((node, weight))
    return tuple(found)


def _choices(graph: Graph) -> tuple[Site, ...]:
    found = []
    for node in graph.nodes:
        types = [graph.types[name] for name in node.operands]
        for key, attribute in node.declaration.attributes.items():
            if key not in node.attrs and not attribute.optional:
                continue
            for choice in attribute.choices:
                changed = _ordered(node, {key: choice})
                if node.attrs.get(key, attribute.default) != choice and fits(
                    node.opcode, types, node.type, changed
                ):
                    settings = (("attribute", key), ("value", choice))
                    found.append(Site(node.name, settings))
    return tuple(found)


def _ordered(node: Node, changed: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    attributes = node.attrs | changed
    order = node.declaration.attributes
    return tuple((key, attributes[key]) for key in order if key in attributes)


@mutation(_choices)
def change_attribute(graph: Graph, site: Site) -> Graph | Refusal:
    """Another legal value for a dilation, a pooling window, a slope, an order."""
    node = graph.by_name[site.node]
    attributes = node.attrs | {site["attribute"]: site["value"]}
    return replace_node(
        graph, site.node, lambda b, v: b.emit(node.opcode, *v, **attributes)
    )


def _kernels(graph: Graph) -> tuple[Site, ...]:
    return tuple(
        Site(node.name, (("kernel", (height, width)),))
        for node, weight in correlations(graph)
        if weight.type.shape[2:] != (1, 1)
        for height in KERNELS
        for width in KERNELS
        if weight.type.shape[2:] != (height, width) and max(height, width) > 1
    )


@mutation(_kernels)
def change_kernel(graph: Graph, site: Site) -> Graph | Refusal:
    """Another kernel size; the old weights are cropped or padded about their centre."""
    node = graph.by_name[site.node]
    weight = trained_weight(graph, node.operands[1])
    assert weight is not None
    height, width = site["kernel"]
    shape = (*weight.type.shape[:2], height, width)
    size = (("height", height), ("width", width))
    init = Projection("centre", (source(weight),), size)
    return _with_weight(graph, node, Type("weight", shape), init)


def _groups(graph: Graph) -> tuple[Site, ...]:
    return tuple(
        Site(node.name, (("groups", groups),))
        for node, weight in correlations(graph)
        if node.attr("groups") == 1
        for groups in GROUPS
    )


@mutation(_groups)
def change_groups(graph: Graph, site: Site) -> Graph | Refusal:
    """groups 1 -> g; each group keeps its own block of the channel matrix."""
    node = graph.by_name[site.node]
    weight = trained_weight(graph, node.operands[1])
    assert weight is not None
    groups = site["groups"]
    outputs, inputs, *kernel = weight.type.shape
    shape = (outputs, inputs // groups, *kernel)
    init = Projection("blocks", (source(weight),), (("groups", groups),))
    return _with_weight(graph, node, Type("weight", shape), init, groups=groups)


def _with_weight(
    graph: Graph, node: Node, type: Type, init: Projection, **changed: Dim
) -> Graph:
    """The same cross-correlation with another weight (and attributes)."""

    def build(b: Editor, v: tuple[str, ...]) -> str:
        attributes = node.attrs | changed
        return b.emit("cross_correlation", v[0], b.weight(type, init), **attributes)

    return replace_node(graph, node.name, build)


def ranks(graph: Graph) -> tuple[Expr, ...]:
    """The rank expressions of a graph's factorisations."""
    found: dict[Expr, None] = {}

    def visit(expression: Projection | str) -> None:
        if isinstance(expression, Projection):
            for key, value in expression.parameters:
                if key == "rank" and isinstance(value, Expr):
                    found[value] = None
            for inner in expression.sources:
                visit(inner)

    for value in graph.weights:
        visit(source(value))
    return tuple(found)


def _ranks(graph: Graph) -> tuple[Site, ...]:
    return tuple(
        Site(str(old), (("rank", old), ("eighths", eighths)))
        for old in ranks(graph)
        for eighths in EIGHTHS
    )


@mutation(_ranks)
def change_rank(graph: Graph, site: Site) -> Graph | Refusal:
    """Another share of the channels between the factors of a factorisation."""
    old = site["rank"]
    new = _with_share(old, site["eighths"])
    if new is None:
        return Refusal("the rank is not a share of the channels")
    if new == old:
        return Refusal("the rank is that already")
    return substitute_dim(graph, old, new)


def _with_share(old: Expr, eighths: int) -> Dim | None:
    """ceildiv(k * min(a, b), 8) with another k."""
    if old.op != "ceildiv" or old.args[1] != 8:
        return None
    inner = old.args[0]
    if isinstance(inner, Expr) and inner.op == "*" and isinstance(inner.args[0], int):
        base = inner.args[1]
    else:
        base = inner
    assert not isinstance(base, str)
    return ceildiv(base * eighths, 8)
