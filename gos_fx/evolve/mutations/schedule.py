"""Edits of tile and unroll nodes: exact, they only steer the code."""

from __future__ import annotations

from gos_fx.evolve.mutations.table import Site, mutation
from gos_fx.ir.fusion import aggregates_channels
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.loops import loops_of
from gos_fx.ir.rewriter import Refusal, insert_after, replace_node

# Sizes of the register tile worth trying: multiples of a vector along the channels,
# and what fits beside it in 16 to 32 registers along a row.
TILES = {"co": (4, 8, 16, 32), "ho": (1, 2, 4), "wo": (1, 2, 4, 6, 7, 8, 12, 14)}
UNROLLS = {"ci": (2, 4, 8), "kh": (2, 3), "kw": (2, 3)}


def _anchors(graph: Graph) -> tuple[Node, ...]:
    """The instructions whose loops are worth a schedule."""
    found = []
    for node in graph.nodes:
        first = graph.by_name.get(node.operands[0]) if node.operands else None
        if first is not None and aggregates_channels(node, first):
            if first.opcode == "cross_correlation":
                found.append(node)
        elif node.opcode == "matmul":
            found.append(node)
    return tuple(found)


def _has(graph: Graph, value: str, opcode: str) -> bool:
    """Whether a schedule node of this kind stands on the value."""
    return any(
        user.opcode == opcode or _has(graph, user.name, opcode)
        for user in graph.users[value]
        if user.declaration.schedule
    )


def _add_sites(
    graph: Graph, opcode: str, table: dict[str, tuple[int, ...]]
) -> tuple[Site, ...]:
    loops = loops_of(graph)
    return tuple(
        Site(node.name, ((loop, size),))
        for node in _anchors(graph)
        if not _has(graph, node.name, opcode)
        for loop, sizes in table.items()
        if loop in loops[node.name]
        for size in sizes
    )


def _change_sites(
    graph: Graph, opcode: str, table: dict[str, tuple[int, ...]]
) -> tuple[Site, ...]:
    loops = loops_of(graph)
    return tuple(
        Site(node.name, ((loop, size),))
        for node in graph.nodes
        if node.opcode == opcode
        for loop, sizes in table.items()
        if loop in loops[node.name]
        for size in sizes
        if node.attrs.get(loop) != size
    )


def _tile_sites(graph: Graph) -> tuple[Site, ...]:
    return _add_sites(graph, "tile", TILES) + _change_sites(graph, "tile", TILES)


@mutation(_tile_sites, exact=True)
def change_tile(graph: Graph, site: Site) -> Graph | Refusal:
    """v -> tile(v, loop=size), or another size of one loop of a tile."""
    return _set(graph, site, "tile")


def _unroll_sites(graph: Graph) -> tuple[Site, ...]:
    return _add_sites(graph, "unroll", UNROLLS) + _change_sites(
        graph, "unroll", UNROLLS
    )


@mutation(_unroll_sites, exact=True)
def change_unroll(graph: Graph, site: Site) -> Graph | Refusal:
    """v -> unroll(v, loop=factor), or another factor of one loop."""
    return _set(graph, site, "unroll")


def _set(graph: Graph, site: Site, opcode: str) -> Graph:
    node = graph.by_name[site.node]
    if node.opcode == opcode:
        sizes = dict(sorted((node.attrs | dict(site.settings)).items()))
        return replace_node(graph, site.node, lambda b, v: b.emit(opcode, *v, **sizes))
    return insert_after(
        graph, site.node, lambda b, v: b.emit(opcode, *v, **dict(site.settings))
    )


def _schedule_nodes(graph: Graph) -> tuple[Site, ...]:
    return tuple(Site(node.name) for node in graph.nodes if node.declaration.schedule)


@mutation(_schedule_nodes, exact=True)
def drop_schedule(graph: Graph, site: Site) -> Graph | Refusal:
    """tile(v) -> v, unroll(v) -> v."""
    return replace_node(graph, site.node, lambda b, v: v[0])
