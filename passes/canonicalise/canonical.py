"""The pass: simplified, without what nobody reads, in one order."""

from __future__ import annotations

from dataclasses import replace

from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.loops import loops_of
from gos_fx.ir.rewriter import prune
from gos_fx.ir.verifier import reached
from gos_fx.passes.canonicalise.simplifier import Schedule, Simplifier
from gos_fx.passes.canonicalise.states import drop_unused_states

# What one round leaves to the next is rare (a state that a rule left unread).
_MOST_ROUNDS = 10


def canonicalise(graph: Graph) -> Graph:
    """A graph of the same value, template or concrete, in canonical form.

    Dead and repeated instructions are gone, numbers and constants folded, algebraic
    identities used that hold for all numbers up to rounding, operands and instructions
    in an order that does not depend on how they were written. Types stay as they are,
    so do feature maps; weights that are no longer read are gone. Each value that has a
    tile or an unroll is read behind it. Canonical graphs are fixed points.
    """
    found = prune(graph)
    for _ in range(_MOST_ROUNDS):
        after = prune(simplify(drop_unused_states(found)))
        if after == found:
            break
        found = after
    return found


def simplify(graph: Graph) -> Graph:
    """The graph and the bodies of its scans through the rules; inputs stay.

    A graph that would no longer depend on one of its feature maps, and a body that
    would not on one of its inputs, is returned as it is.
    """
    copy = Simplifier(_simplify_body)
    output = copy.run(graph)
    names = {f"input {value.name}": value.name for value in graph.inputs}
    nodes = _in_order(copy, output, names)
    plain = Graph(graph.name, graph.inputs, tuple(nodes), names[output])
    found = _scheduled(
        plain, {names[v]: s for v, s in copy.schedules.items() if v in names}
    )
    lost = reached(graph) - reached(found)
    if any(value.name in lost for value in graph.maps):
        return graph
    return found.renumbered()


def _simplify_body(body: Graph) -> Graph:
    found = simplify(drop_unused_states(body))
    if all(value.name in reached(found) for value in body.inputs):
        return found
    return body


def _in_order(copy: Simplifier, output: str, names: dict[str, str]) -> list[Node]:
    """The nodes that the output needs, each behind its operands.

    Fills in ``names`` by those that no input has.
    """
    ordered: list[Node] = []
    waiting = [output]
    while waiting:
        name = waiting[-1]
        node = copy.node(name)
        missing = [o for o in node.operands if o not in names] if node else []
        if node is not None and name not in names and not missing:
            names[name] = f"%{len(ordered)}"
            operands = tuple(names[o] for o in node.operands)
            ordered.append(replace(node, name=names[name], operands=operands))
        if missing:
            waiting += reversed(missing)
        else:
            waiting.pop()
    return ordered


def _scheduled(graph: Graph, schedules: dict[str, Schedule]) -> Graph:
    """Each value read behind its tile and unroll, of the loops that it has."""
    loops = loops_of(graph)
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        operands = tuple(renamed.get(name, name) for name in node.operands)
        nodes.append(replace(node, operands=operands))
        last = node.name
        for kind, sizes in sorted(schedules.get(node.name, {}).items()):
            kept = tuple((k, v) for k, v in sizes.items() if k in loops[node.name])
            if kept:
                name = f"{node.name} {kind}"
                nodes.append(Node(name, kind, (last,), kept, node.type))
                last = name
        renamed[node.name] = last
    output = renamed.get(graph.output, graph.output)
    return replace(graph, nodes=tuple(nodes), output=output)
