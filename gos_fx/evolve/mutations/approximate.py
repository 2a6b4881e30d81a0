"""Edits that replace one product by cheaper ones; weights by projection."""

from __future__ import annotations

from typing import Any

from gos_fx.evolve.mutations.hyperparameter import (
    EIGHTHS,
    correlations,
    rank,
    source,
    trained_weight,
)
from gos_fx.evolve.mutations.table import Site, mutation
from gos_fx.ir.dim import Dim
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.projection import Projection
from gos_fx.ir.rewriter import Editor, Refusal, insert_after, replace_node
from gos_fx.ir.types import Type


def _dense(graph: Graph, *, spatial: bool) -> tuple[tuple[Node, Input], ...]:
    """Cross-correlations in one group; ``spatial``: only those larger than 1 x 1."""
    return tuple(
        (node, weight)
        for node, weight in correlations(graph)
        if node.attr("groups") == 1
        and not (spatial and weight.type.shape[2:] == (1, 1))
    )


def _shares(graph: Graph, *, spatial: bool) -> tuple[Site, ...]:
    return tuple(
        Site(node.name, (("eighths", eighths),))
        for node, _ in _dense(graph, spatial=spatial)
        for eighths in EIGHTHS
    )


def _pair(graph: Graph, site: Site) -> tuple[Node, Input]:
    node = graph.by_name[site.node]
    weight = trained_weight(graph, node.operands[1])
    assert weight is not None
    return node, weight


def _correlate(
    b: Editor, x: str, shape: tuple[Dim, ...], init: Projection, **attributes: Any
) -> str:
    weight = b.weight(Type("weight", shape), init)
    return b.emit("cross_correlation", x, weight, **attributes)


def _made(function: str, weight: Input, share: Dim | None = None) -> Projection:
    parameters = () if share is None else (("rank", share),)
    return Projection(function, (source(weight),), parameters)


def _dense_sites(graph: Graph) -> tuple[Site, ...]:
    return _shares(graph, spatial=False)


def _spatial_sites(graph: Graph) -> tuple[Site, ...]:
    return _shares(graph, spatial=True)


@mutation(_dense_sites)
def narrow_outputs(graph: Graph, site: Site) -> Graph | Refusal:
    """K x K to C_out -> K x K to r maps, then 1 x 1 to C_out."""
    node, weight = _pair(graph, site)
    outputs, inputs, *kernel = weight.type.shape
    r = rank(inputs, outputs, site["eighths"])

    def build(b: Editor, v: tuple[str, ...]) -> str:
        first = (r, inputs, *kernel)
        maps = _correlate(b, v[0], first, _made("narrow", weight, r), **node.attrs)
        value = b.emit("sum", maps, axis="ci")
        return _correlate(b, value, (outputs, r, 1, 1), _made("expand", weight, r))

    return replace_node(graph, site.node, build)


@mutation(_spatial_sites)
def narrow_inputs(graph: Graph, site: Site) -> Graph | Refusal:
    """K x K from C_in -> 1 x 1 to r maps, then K x K from those."""
    node, weight = _pair(graph, site)
    outputs, inputs, *kernel = weight.type.shape
    r = rank(inputs, outputs, site["eighths"])

    def build(b: Editor, v: tuple[str, ...]) -> str:
        maps = _correlate(b, v[0], (r, inputs, 1, 1), _made("squeeze", weight, r))
        value = b.emit("sum", maps, axis="ci")
        second = (outputs, r, *kernel)
        return _correlate(b, value, second, _made("widen", weight, r), **node.attrs)

    return replace_node(graph, site.node, build)


@mutation(_spatial_sites)
def separate_axes(graph: Graph, site: Site) -> Graph | Refusal:
    """K x K -> K x 1 to r maps, then 1 x K."""
    node, weight = _pair(graph, site)
    outputs, inputs, height, width = weight.type.shape
    if height == 1 or width == 1:
        return Refusal("the kernel is one-dimensional already")
    r = rank(inputs, outputs, site["eighths"])
    (s_h, s_w), (d_h, d_w) = node.attr("stride"), node.attr("dilation")

    def build(b: Editor, v: tuple[str, ...]) -> str:
        maps = _correlate(
            b,
            v[0],
            (r, inputs, height, 1),
            _made("rows", weight, r),
            stride=(s_h, 1),
            dilation=(d_h, 1),
        )
        return _correlate(
            b,
            b.emit("sum", maps, axis="ci"),
            (outputs, r, 1, width),
            _made("columns", weight, r),
            stride=(1, s_w),
            dilation=(1, d_w),
        )

    return replace_node(graph, site.node, build)


def _separable(graph: Graph) -> tuple[Site, ...]:
    return tuple(Site(node.name) for node, _ in _dense(graph, spatial=True))


@mutation(_separable)
def separate_channels(graph: Graph, site: Site) -> Graph | Refusal:
    """K x K -> one K x K filter per input channel, then 1 x 1."""
    node, weight = _pair(graph, site)
    outputs, inputs, *kernel = weight.type.shape

    def build(b: Editor, v: tuple[str, ...]) -> str:
        attributes = node.attrs | {"groups": inputs}
        maps = _correlate(
            b, v[0], (inputs, 1, *kernel), _made("depthwise", weight), **attributes
        )
        value = b.emit("sum", maps, axis="ci")
        return _correlate(b, value, (outputs, inputs, 1, 1), _made("pointwise", weight))

    return replace_node(graph, site.node, build)


def _summed(graph: Graph) -> dict[str, Node]:
    """Cross-correlations in one group with the one aggregation that reads each."""
    found = {}
    for node, _ in _dense(graph, spatial=False):
        users = graph.users[node.name]
        if len(users) == 1 and users[0].attrs.get("axis") == "ci":
            found[node.name] = users[0]
    return found


def _coarse(graph: Graph) -> tuple[Site, ...]:
    if any(node.opcode == "resize" for node in graph.nodes):
        return ()
    return tuple(Site(name) for name in _summed(graph))


@mutation(_coarse)
def coarsen(graph: Graph, site: Site) -> Graph | Refusal:
    """conv(x) -> resize(conv(avg_pool(x))): a quarter of the positions."""
    node = graph.by_name[site.node]
    aggregate = _summed(graph)[site.node]
    position = [n.name for n in graph.nodes].index(aggregate.name)

    def build(b: Editor, v: tuple[str, ...]) -> str:
        pooled = b.emit("avg_pool", v[0], kernel=(2, 2), stride=(2, 2))
        attributes = node.attrs | {"stride": (1, 1)}
        return b.emit("cross_correlation", pooled, v[1], **attributes)

    coarse = replace_node(graph, site.node, build)
    size = aggregate.type.shape[2:]
    # One instruction more stands before the aggregation now: the pooling.
    name = coarse.nodes[position + 1].name
    return insert_after(coarse, name, lambda b, v: b.emit("resize", *v, size=size))


def _products(graph: Graph) -> tuple[Site, ...]:
    return tuple(
        Site(node.name, (("eighths", eighths),))
        for node in graph.nodes
        if node.opcode == "matmul" and _factor(graph, node) is not None
        for eighths in EIGHTHS
    )


def _factor(graph: Graph, node: Node) -> tuple[Input, bool] | None:
    """The weight w of a product x w or x w^T, and whether it is transposed."""
    name = node.operands[1]
    before = graph.by_name.get(name)
    transposed = before is not None and before.opcode == "transpose"
    weight = trained_weight(
        graph, before.operands[0] if before is not None and transposed else name
    )
    if weight is None or weight.type.rank != 2:
        return None
    return weight, transposed


@mutation(_products)
def factorize_product(graph: Graph, site: Site) -> Graph | Refusal:
    """x w^T -> (x r^T) l^T, or x w -> (x l) r, with w ~ l r, the truncated SVD."""
    node = graph.by_name[site.node]
    found = _factor(graph, node)
    assert found is not None
    weight, transposed = found
    rows, columns = weight.type.shape
    r = rank(columns, rows, site["eighths"])
    factors = [((rows, r), "left_factor"), ((r, columns), "right_factor")]

    def build(b: Editor, v: tuple[str, ...]) -> str:
        value = v[0]
        for shape, function in reversed(factors) if transposed else factors:
            w = b.weight(Type("weight", shape), _made(function, weight, r))
            w = b.emit("transpose", w, axes=(1, 0)) if transposed else w
            value = b.emit("matmul", value, w)
        return value

    return replace_node(graph, site.node, build)
