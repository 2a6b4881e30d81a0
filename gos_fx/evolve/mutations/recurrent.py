"""Edits of recurrent cells: gates, states, and every other edit inside a body."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

from gos_fx.evolve.mutations.table import MUTATIONS, Site, draw_any, mutation
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.rewriter import Editor, Refusal, ancestors, hoist, prune, replace_node
from gos_fx.ir.verifier import verify

SCAN, BUNDLE, RESULT = "scan", "bundle", "result"
# Sizes that a body shares with the graph around it change in both.
_OUTSIDE = ("edit_body", "change_rank")


def _gates(graph: Graph) -> tuple[Site, ...]:
    gates = [node for node in graph.nodes if node.opcode == "sigmoid"]
    behind = ancestors(graph)
    return tuple(
        Site(gate.name, (("other", other.name),))
        for gate in gates
        for other in gates
        if gate is not other
        and gate.type == other.type
        and gate.name not in behind[other.name]
    )


@mutation(_gates)
def complement(graph: Graph, site: Site) -> Graph | Refusal:
    """A gate -> 1 - z, z another gate: what one lets through the other keeps out."""
    other = site["other"]
    return replace_node(
        hoist(graph, other),
        site.node,
        lambda b, v: b.emit("sub", b.emit("scalar", value=1.0), b.value(other)),
    )


def _scans(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.opcode == SCAN]


def _next_states(scan: Node) -> tuple[str, ...]:
    """The values of the body that are the next states, in their order."""
    body: Graph = scan.attr("body")
    last = body.by_name.get(body.output)
    return last.operands if last is not None and last.opcode == BUNDLE else ()


def _is_same(graph: Graph, a: str, b: str) -> bool:
    """Whether two values are one, or made alike."""
    first, second = graph.by_name.get(a), graph.by_name.get(b)
    if a == b or first is None or second is None:
        return a == b
    return replace(first, name=b) == second


def _twins(graph: Graph) -> tuple[Site, ...]:
    found = []
    for scan in _scans(graph):
        after = dict(zip(scan.attr("states"), _next_states(scan), strict=False))
        before = _bound(scan)
        for a, b in combinations(after, 2):
            if after[a] == after[b] and _is_same(graph, before[a], before[b]):
                found.append(Site(scan.name, (("keep", a), ("drop", b))))
    return tuple(found)


@mutation(_twins, exact=True)
def merge_states(graph: Graph, site: Site) -> Graph | Refusal:
    """Two states that begin and go on alike -> one."""
    scan = graph.by_name[site.node]
    if graph.output == scan.name or any(
        user.opcode != RESULT for user in graph.users[scan.name]
    ):
        return Refusal("the states are read together")
    keep, drop = site["keep"], site["drop"]
    states = [name for name in scan.attr("states") if name != drop]
    body = _without_state(scan, keep, drop)
    before = _bound(scan)
    editor = Editor(graph.name)
    for value in graph.inputs:
        editor.input(value.name, value.type, value.init)
    for node in graph.nodes:
        if node is scan:
            operands = [editor.value(before[value.name]) for value in body.inputs]
            attributes = scan.attrs | {"body": body, "states": tuple(states)}
            found = editor.emit(SCAN, *operands, **attributes)
        elif node.operands[:1] == (scan.name,):
            state = scan.attr("states")[node.attr("index")]
            index = states.index(keep if state == drop else state)
            found = editor.emit(RESULT, editor.value(scan.name), index=index)
        else:
            found = editor.copy(node, editor.renamed)
        editor.renamed[node.name] = found
    return prune(editor.build(editor.value(graph.output)))


def _bound(scan: Node) -> dict[str, str]:
    """The value that each input of the body is bound to."""
    body: Graph = scan.attr("body")
    names = [value.name for value in body.inputs]
    return dict(zip(names, scan.operands, strict=True))


def _without_state(scan: Node, keep: str, drop: str) -> Graph:
    body: Graph = scan.attr("body")
    editor = Editor(body.name)
    editor.renamed[drop] = keep
    for value in body.inputs:
        if value.name != drop:
            editor.input(value.name, value.type, value.init)
    for node in body.nodes:
        if node.name != body.output:
            editor.renamed[node.name] = editor.copy(node, editor.renamed)
    after = [
        editor.value(value)
        for name, value in zip(scan.attr("states"), _next_states(scan), strict=True)
        if name != drop
    ]
    output = after[0] if len(after) == 1 else editor.emit(BUNDLE, *after)
    return prune(editor.build(output))


def _opened(graph: Graph, scan: Node) -> tuple[Graph, dict[str, str]] | None:
    """The body with its weights under the names and with the projections that they have
    outside, and the operand for each of its inputs; None where names clash."""
    body: Graph = scan.attr("body")
    outside = {value.name: value for value in graph.weights}
    bound = _bound(scan)
    inputs, names = [], {}
    for value in body.inputs:
        weight = outside.get(bound[value.name])
        if weight is not None and value.type.role != "map":
            names[value.name] = weight.name
            inputs.append(replace(weight, type=value.type))
        else:
            inputs.append(value)
    taken = [*(value.name for value in inputs), *body.by_name]
    if len(set(taken)) < len(taken):
        return None
    nodes = tuple(
        replace(node, operands=tuple(names.get(o, o) for o in node.operands))
        for node in body.nodes
    )
    opened = replace(body, inputs=tuple(inputs), nodes=nodes)
    return opened, {names.get(name, name): value for name, value in bound.items()}


def _inner() -> list[str]:
    return [name for name in MUTATIONS if name not in _OUTSIDE]


def _inside(graph: Graph) -> tuple[Site, ...]:
    found = []
    for scan in _scans(graph):
        opened = _opened(graph, scan)
        found += [
            Site(scan.name, (("mutation", name), ("site", site)))
            for name in _inner()
            if opened is not None
            for site in MUTATIONS[name].sites(opened[0])
        ]
    return tuple(found)


def _draw_inside(graph: Graph, rng: random.Random) -> Site | None:
    """In a scan drawn uniformly an edit drawn as outside."""
    scans = _scans(graph)
    if not scans:
        return None
    scan = rng.choice(scans)
    opened = _opened(graph, scan)
    found = None if opened is None else draw_any(opened[0], _inner(), rng)
    if found is None:
        return None
    return Site(scan.name, (("mutation", found[0]), ("site", found[1])))


@mutation(_inside, draws=_draw_inside)
def edit_body(graph: Graph, site: Site) -> Graph | Refusal:
    """Any edit, of the body of a scan; new weights go in from outside, where their
    projections belong."""
    scan = graph.by_name[site.node]
    opened = _opened(graph, scan)
    if opened is None:
        return Refusal("a weight goes into the body twice")
    body, bound = opened
    child = MUTATIONS[site["mutation"]].apply(body, site["site"])
    if isinstance(child, Refusal):
        return child
    verify(child)
    outside = {value.name for value in graph.weights}
    computed = {v.name for v in body.weights if bound[v.name] not in outside}
    for value in child.weights:
        if value.init is not None and value.init.originals & computed:
            return Refusal("the weight is computed outside of the body")
    inputs = tuple(replace(value, init=None) for value in child.inputs)
    closed = replace(child, inputs=inputs)

    def build(b: Editor, v: tuple[str, ...]) -> str:
        operands = [
            _weight(graph, b, value) if value.init else b.value(bound[value.name])
            for value in child.inputs
        ]
        return b.emit(SCAN, *operands, **(scan.attrs | {"body": closed}))

    return replace_node(graph, scan.name, build)


def _weight(graph: Graph, editor: Editor, value: Input) -> str:
    """The outer weight of this type and projection, or a new one."""
    assert value.init is not None
    for weight in graph.weights:
        if (weight.type, weight.init) == (value.type, value.init):
            return weight.name
    return editor.weight(value.type, value.init)
