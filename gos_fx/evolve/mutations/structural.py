"""Edits of single instructions: swap, change an aggregation, insert, delete."""

from __future__ import annotations

from gos_fx.evolve.mutations.candidates import alternatives, candidates, computes
from gos_fx.evolve.mutations.table import Site, mutation
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.projection import Projection
from gos_fx.ir.rewriter import Refusal, ancestors, hoist, insert_after, replace_node
from gos_fx.ir.types import AXES, Type, axis_index, channel_axis


def _is_aggregation(node: Node) -> bool:
    return node.declaration.category == "aggregation" and bool(node.attrs.get("axis"))


def _others(graph: Graph, node: Node) -> list[Site]:
    return [
        Site(node.name, (("opcode", opcode), ("attributes", attributes)))
        for opcode, attributes in alternatives(graph, node)
    ]


def _swaps(graph: Graph) -> tuple[Site, ...]:
    return tuple(
        site
        for node in graph.nodes
        if computes(node) and not _is_aggregation(node)
        for site in _others(graph, node)
    )


@mutation(_swaps)
def swap_instruction(graph: Graph, site: Site) -> Graph | Refusal:
    """f(x) -> g(x), where g takes and gives the same types."""
    attributes = dict(site["attributes"])
    return replace_node(
        graph, site.node, lambda b, v: b.emit(site["opcode"], *v, **attributes)
    )


def _aggregations(graph: Graph) -> tuple[Site, ...]:
    nodes = [node for node in graph.nodes if _is_aggregation(node)]
    found = [site for node in nodes for site in _others(graph, node)]
    found += [
        Site(node.name, (("opcode", "weighted_mean"),))
        for node in nodes
        if len(node.operands) == 1 and not node.attrs.get("keep")
    ]
    return tuple(found)


@mutation(_aggregations)
def change_aggregation(graph: Graph, site: Site) -> Graph | Refusal:
    """sum -> mean, max, min or weighted_mean over one axis; weights start equal."""
    if site["opcode"] != "weighted_mean":
        return swap_instruction(graph, site)
    node = graph.by_name[site.node]
    source, axis = graph.types[node.operands[0]], node.attr("axis")
    extent = source.shape[axis_index(axis, source.rank)]
    init = Projection("ones", (), (("size", extent),))
    return replace_node(
        graph,
        site.node,
        lambda b, operands: b.emit(
            "weighted_mean",
            *operands,
            b.weight(Type("weight", (extent,)), init),
            axis=axis,
        ),
    )


def _values(graph: Graph) -> list[tuple[str, Type]]:
    """The feature maps that an instruction can be put behind."""
    return [
        (name, type)
        for name, type in graph.types.items()
        if type.role == "map"
        and not type.is_bundle
        and type.rank < 5  # maps of a correlation, which nobody wants to store
        and not (name in graph.by_name and graph.by_name[name].declaration.schedule)
    ]


def _insertions(graph: Graph) -> tuple[Site, ...]:
    found = []
    for name, type in _values(graph):
        for opcode, attributes in candidates((type,), type):
            settings = (("opcode", opcode), ("attributes", attributes))
            found.append(Site(name, settings))
        if "co" in AXES.get(type.rank, ())[1:]:
            found.append(Site(name, (("opcode", "hadamard"),)))
    return tuple(found)


@mutation(_insertions)
def insert_instruction(graph: Graph, site: Site) -> Graph | Refusal:
    """x -> f(x), or x -> x * g with a new gain per channel that starts at one."""
    opcode = site["opcode"]
    if opcode != "hadamard":
        attributes = dict(site["attributes"])
        return insert_after(
            graph, site.node, lambda b, v: b.emit(opcode, *v, **attributes)
        )
    type = graph.types[site.node]
    channels = type.shape[channel_axis(type.rank)]
    gain = Type("weight", (channels,))
    init = Projection("ones", (), (("size", channels),))
    return insert_after(
        graph, site.node, lambda b, v: b.emit("hadamard", *v, b.weight(gain, init))
    )


def _pairs(graph: Graph) -> tuple[Site, ...]:
    values, behind = _values(graph), ancestors(graph)
    return tuple(
        Site(name, (("opcode", opcode), ("attributes", attributes), ("other", other)))
        for name, type in values
        for other, its_type in values
        if other != name
        and its_type == type
        and name not in behind[other]
        and (name in graph.by_name or other not in graph.by_name)
        for opcode, attributes in candidates((type, type), type)
    )


@mutation(_pairs)
def insert_binary(graph: Graph, site: Site) -> Graph | Refusal:
    """x -> f(x, y), y another value of the same type that does not depend on x."""
    attributes = dict(site["attributes"])
    other = site["other"]
    return insert_after(
        hoist(graph, other),
        site.node,
        lambda b, v: b.emit(site["opcode"], *v, b.value(other), **attributes),
    )


def _deletions(graph: Graph) -> tuple[Site, ...]:
    return tuple(
        Site(node.name, (("keep", operand),))
        for node in graph.nodes
        if not node.declaration.schedule and node.type.role == "map"
        for operand in dict.fromkeys(node.operands)
        if graph.types[operand] == node.type
    )


@mutation(_deletions)
def delete_instruction(graph: Graph, site: Site) -> Graph | Refusal:
    """f(x) -> x, where both have one type; f(x, y) -> x or y."""
    position = graph.by_name[site.node].operands.index(site["keep"])
    child = replace_node(graph, site.node, lambda b, operands: operands[position])
    if not any(not node.declaration.schedule for node in child.nodes):
        return Refusal("nothing would be left")
    return child
