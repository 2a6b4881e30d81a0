"""Scans without the states that nobody reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.types import bundle
from gos_fx.ir.verifier import reached


def drop_unused_states(graph: Graph) -> Graph:
    """``graph`` whose scans compute only the states that are read outside, and those
    that the others need."""
    for node in graph.nodes:
        if node.opcode == "scan":
            kept = _kept(graph, node)
            if len(kept) < len(node.attr("states")):
                smaller = _without(graph, node, kept)
                if smaller is not None:
                    return drop_unused_states(smaller)
    return graph


def _kept(graph: Graph, scan: Node) -> list[int]:
    """Places of the states that are needed; all, where the whole bundle is read."""
    body, states = scan.attr("body"), scan.attr("states")
    readers = graph.users[scan.name]
    whole = scan.name == graph.output or any(r.opcode != "result" for r in readers)
    if whole or not readers:
        return list(range(len(states)))
    needed = {reader.attr("index") for reader in readers}
    while True:
        inside = reached(_giving(body, sorted(needed)))
        more = needed | {i for i, name in enumerate(states) if name in inside}
        if more == needed:
            return sorted(needed)
        needed = more


def _giving(body: Graph, states: list[int]) -> Graph:
    """The body that gives these next states alone."""
    last = body.by_name.get(body.output)
    if len(body.result.values) == len(states) or last is None:
        return body
    if last.opcode != "bundle":
        return body
    names = [last.operands[i] for i in states]
    if len(names) == 1:
        return replace(body, output=names[0])
    types = [body.types[name] for name in names]
    together = Node(last.name, "bundle", tuple(names), (), bundle(types))
    nodes = [together if node is last else node for node in body.nodes]
    return replace(body, nodes=tuple(nodes))


def _without(graph: Graph, scan: Node, kept: list[int]) -> Graph | None:
    body, states = _giving(scan.attr("body"), kept), scan.attr("states")
    if body is scan.attr("body"):
        return None
    inside = reached(body)
    names = tuple(states[i] for i in kept)
    places = [i for i, value in enumerate(body.inputs) if value.name in inside]
    body = replace(
        body,
        inputs=tuple(body.inputs[i] for i in places),
        nodes=tuple(node for node in body.nodes if node.name in inside),
    ).renumbered()
    steps = [v for v in body.maps if v.name not in names]
    if not steps or not set(names) <= {value.name for value in body.inputs}:
        return None  # nothing would say how often it is repeated
    changed: dict[str, Any] = {"body": body, "states": names}
    attributes = tuple((k, changed.get(k, v)) for k, v in scan.attributes)
    parts = [scan.type.parts[i] for i in kept]
    smaller = replace(
        scan,
        operands=tuple(scan.operands[i] for i in places),
        attributes=attributes,
        type=bundle(parts),
    )
    nodes = []
    for node in graph.nodes:
        if node is scan:
            node = smaller
        elif node.opcode == "result" and node.operands == (scan.name,):
            index = kept.index(node.attr("index"))
            node = replace(node, attributes=(("index", index),))
        nodes.append(node)
    found = replace(graph, nodes=tuple(nodes))
    if any(v.name not in reached(found) for v in graph.maps):
        return None
    return found
