"""Edits of single instructions: swap, change an aggregation, insert, delete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gos_fx.errors import VerifyError
from gos_fx.evolve.mutations.table import Site, mutation
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.opcode import OPCODES, Opcode
from gos_fx.ir.projection import Projection
from gos_fx.ir.rewriter import Refusal, insert_after, replace_node
from gos_fx.ir.types import Type, axis_index


def _defaults(opcode: Opcode) -> dict[str, Any]:
    return {
        key: attribute.default
        for key, attribute in opcode.attributes.items()
        if attribute.default is not None and not attribute.solved
    }


def fits(opcode: Opcode, operands: list[Type], result: Type, **attrs: Any) -> bool:
    """Whether the declaration takes these operands and gives this type."""
    try:
        return opcode.infer(operands, attrs) == result
    except VerifyError:
        return False


def alternatives(graph: Graph, node: Node) -> Iterator[tuple[str, dict[str, Any]]]:
    """Instructions of the same arity and types, read off the declarations.

    Attributes of the same name are kept, the others take their defaults.
    """
    operands = [graph.types[name] for name in node.operands]
    for name in OPCODES:
        opcode = OPCODES[name]
        if name == node.opcode or opcode.schedule or not opcode.table1:
            continue
        if len(opcode.operands) != len(node.declaration.operands):
            continue
        attributes = _defaults(opcode)
        attributes |= {k: v for k, v in node.attributes if k in opcode.attributes}
        if fits(opcode, operands, node.type, **attributes):
            yield name, attributes


def _is_aggregation(node: Node) -> bool:
    return node.declaration.category == "aggregation" and bool(node.attrs.get("axis"))


def _is_fixed(node: Node) -> bool:
    return node.declaration.schedule or node.declaration.category == "structure"


def _swaps(graph: Graph) -> tuple[Site, ...]:
    return tuple(
        Site(node.name, (("opcode", opcode), ("attributes", attributes)))
        for node in graph.nodes
        if not _is_fixed(node) and not _is_aggregation(node)
        for opcode, attributes in alternatives(graph, node)
    )


@mutation(_swaps)
def swap_instruction(graph: Graph, site: Site) -> Graph | Refusal:
    """f(x) -> g(x), where g takes and gives the same types."""
    return replace_node(
        graph,
        site.node,
        lambda b, operands: b.emit(site["opcode"], *operands, **site["attributes"]),
    )


def _aggregations(graph: Graph) -> tuple[Site, ...]:
    found = [
        Site(node.name, (("opcode", opcode), ("attributes", attributes)))
        for node in graph.nodes
        if _is_aggregation(node)
        for opcode, attributes in alternatives(graph, node)
    ]
    found += [
        Site(node.name, (("opcode", "weighted_mean"),))
        for node in graph.nodes
        if _is_aggregation(node) and len(node.operands) == 1
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


def _insertions(graph: Graph) -> tuple[Site, ...]:
    found = []
    for name, type in graph.types.items():
        if type.role != "map" or type.rank == 5:
            continue
        if name in graph.by_name and graph.by_name[name].declaration.schedule:
            continue
        for opcode in OPCODES:
            declaration = OPCODES[opcode]
            if declaration.schedule or not declaration.table1 or declaration.variadic:
                continue
            if len(declaration.operands) == 1 and fits(
                declaration, [type], type, **_defaults(declaration)
            ):
                found.append(Site(name, (("opcode", opcode),)))
        if type.rank in (2, 4):
            found.append(Site(name, (("opcode", "hadamard"),)))
    return tuple(found)


@mutation(_insertions)
def insert_instruction(graph: Graph, site: Site) -> Graph | Refusal:
    """x -> f(x), or x -> x * g with a new gain per channel that starts at one."""
    opcode = site["opcode"]
    if opcode != "hadamard":
        return insert_after(graph, site.node, lambda b, v: b.emit(opcode, *v))
    channels = graph.types[site.node].shape[1]
    gain = Type("weight", (channels,))
    init = Projection("ones", (), (("size", channels),))
    return insert_after(
        graph, site.node, lambda b, v: b.emit("hadamard", *v, b.weight(gain, init))
    )


def _deletions(graph: Graph) -> tuple[Site, ...]:
    found = []
    for node in graph.nodes:
        if node.declaration.schedule or node.type.role != "map":
            continue
        for operand in node.operands:
            if graph.types[operand] == node.type:
                found.append(Site(node.name, (("keep", operand),)))
                break
    return tuple(found)


@mutation(_deletions)
def delete_instruction(graph: Graph, site: Site) -> Graph | Refusal:
    """f(x) -> x, where both have one type."""
    position = graph.by_name[site.node].operands.index(site["keep"])
    child = replace_node(graph, site.node, lambda b, operands: operands[position])
    if not any(not node.declaration.schedule for node in child.nodes):
        return Refusal("nothing would be left")
    return child
