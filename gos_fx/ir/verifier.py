"""What a valid graph is: SSA, types, reachability, schedules, bounds."""

from __future__ import annotations

from dataclasses import dataclass

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph


@dataclass(frozen=True)
class Bounds:
    """Largest counts of Table 1 instructions and of edges between them (section 3.1).

    The paper's bounds are 1 < N <= 20 and 1 < E <= 25.
    """

    nodes: int = 20
    edges: int = 25


def verify(graph: Graph) -> Graph:
    """The graph itself, once it is known to be valid.

    Raises:
        VerifyError: a value is used before it is defined or never used, a type is not
            what the instruction gives, a value has two tiles or unrolls, or the output
            does not depend on the feature map.
    """
    _check_ssa(graph)
    _check_reach(graph)
    _check_schedule(graph)
    for body in graph.bodies:
        verify(body)
    return graph


def count(graph: Graph) -> tuple[int, int]:
    """Instructions of Table 1 and the edges between them, as the bounds count them."""
    counted = {
        node.name
        for node in graph.nodes
        if node.declaration.table1 and not node.declaration.schedule
    }
    source: dict[str, str | None] = {v.name: None for v in graph.inputs}
    edges = 0
    for node in graph.nodes:
        if node.name in counted:
            edges += sum(source[o] is not None for o in node.operands)
            source[node.name] = node.name
        else:  # free nodes hand on the instruction behind them
            source[node.name] = next(
                (source[o] for o in node.operands if source[o] is not None), None
            )
    return len(counted), edges


def check_bounds(graph: Graph, bounds: Bounds, original: Graph | None = None) -> None:
    """Refuse a graph beyond the bounds, unless the original already was as large.

    Raises:
        VerifyError: with the counts.
    """
    before = [] if original is None else [count(g) for g in _with_bodies(original)]
    allowed_nodes = max([bounds.nodes, *(nodes for nodes, _ in before)])
    allowed_edges = max([bounds.edges, *(edges for _, edges in before)])
    for part in _with_bodies(graph):
        nodes, edges = count(part)
        if nodes > allowed_nodes:
            raise VerifyError(
                f"{nodes} instructions, at most {allowed_nodes}", part.name
            )
        if edges > allowed_edges:
            raise VerifyError(f"{edges} edges, at most {allowed_edges}", part.name)


def _with_bodies(graph: Graph) -> list[Graph]:
    """The graph and the bodies of its scans, each of which has the bounds to itself."""
    inner = [part for body in graph.bodies for part in _with_bodies(body)]
    return [graph, *inner]


def _check_ssa(graph: Graph) -> None:
    types = {v.name: v.type for v in graph.inputs}
    if len(types) != len(graph.inputs):
        raise VerifyError("two inputs share a name", where=graph.name)
    for node in graph.nodes:
        if node.name in types:
            raise VerifyError(f"{node.name} is defined twice", where=graph.name)
        for operand in node.operands:
            if operand not in types:
                raise VerifyError(
                    f"{operand} is used before it is defined",
                    where=f"{graph.name}, {node.name}",
                )
        inferred = node.declaration.infer([types[o] for o in node.operands], node.attrs)
        if inferred != node.type:
            raise VerifyError(
                f"{node.opcode} gives {inferred}, not {node.type}",
                where=f"{graph.name}, {node.name}",
            )
        types[node.name] = node.type
    if graph.output not in types:
        raise VerifyError(f"{graph.output} is not defined", where=graph.name)


def _check_reach(graph: Graph) -> None:
    needed = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.operands)
    for name in graph.types:
        if name not in needed:
            raise VerifyError(f"{name} does not reach the output", where=graph.name)
    if graph.result.role != "map":
        raise VerifyError("the output does not depend on a map", where=graph.name)


def _check_schedule(graph: Graph) -> None:
    for node in graph.nodes:
        if not node.declaration.schedule:
            continue
        source = node.operands[0]
        while source in graph.by_name and graph.by_name[source].declaration.schedule:
            if graph.by_name[source].opcode == node.opcode:
                raise VerifyError(f"{source} has two of {node.opcode}", graph.name)
            source = graph.by_name[source].operands[0]
        if source not in graph.by_name:
            raise VerifyError(f"{node.opcode} stands on no instruction", graph.name)
