"""The canonical form of random graphs: a fixed point, of the same value, and the same
however the graph was written."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks.random_graphs.checks import check_canonical
from benchmarks.random_graphs.generator import random_graph
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.verifier import verify
from gos_fx.passes.canonicalise import canonicalise
from gos_fx.passes.canonicalise.simplifier import COMMUTATIVE

SEEDS = range(20_000, 20_150)


@pytest.mark.parametrize("first", SEEDS[::25])
def test_value_and_fixed_point(first: int) -> None:
    for seed in range(first, first + 25):
        check_canonical(random_graph(seed))


@pytest.mark.parametrize("first", SEEDS[::25])
def test_written_in_another_order(first: int) -> None:
    for seed in range(first, first + 25):
        graph = random_graph(seed).without_schedule()
        other = verify(rewritten(graph, random.Random(seed)))
        assert canonicalise(other).text == canonicalise(graph).text, f"seed {seed}"


@pytest.mark.parametrize("first", SEEDS[::25])
def test_repeated_instructions_are_one(first: int) -> None:
    for seed in range(first, first + 25):
        graph = random_graph(seed).without_schedule()
        other = verify(repeated(graph, random.Random(seed)))
        assert canonicalise(other).text == canonicalise(graph).text, f"seed {seed}"


def rewritten(graph: Graph, rng: random.Random) -> Graph:
    """Instructions in another order that they can have, operands exchanged."""
    waiting, there = list(graph.nodes), {v.name for v in graph.inputs}
    nodes = []
    while waiting:
        node = rng.choice([n for n in waiting if there.issuperset(n.operands)])
        waiting.remove(node)
        there.add(node.name)
        operands = list(node.operands)
        if node.opcode in COMMUTATIVE:
            rng.shuffle(operands)
        nodes.append(replace(node, operands=tuple(operands)))
    return replace(graph, nodes=tuple(nodes)).renumbered()


def repeated(graph: Graph, rng: random.Random) -> Graph:
    """Some instructions twice, and their readers read one or the other."""
    twins: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        operands = tuple(
            twins[o] if o in twins and rng.random() < 0.5 else o for o in node.operands
        )
        node = replace(node, operands=operands)
        nodes.append(node)
        if len(graph.users[node.name]) > 1:
            twins[node.name] = f"{node.name}_again"
            nodes.append(replace(node, name=twins[node.name]))
    kept = {graph.output}
    for node in reversed(nodes):
        if node.name in kept:
            kept.update(node.operands)
    nodes = [node for node in nodes if node.name in kept]
    return replace(graph, nodes=tuple(nodes)).renumbered()
