"""Random graphs with a random error: refused with a reason, or valid all the same."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.random_graphs.generator import random_graph
from gos_fx.errors import GosError
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.parser import parse
from gos_fx.ir.verifier import verify

# Some of which are legal somewhere.
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 3, 2.5, float("nan"), "co", "zz", "", True, None, 10**9),
    *((), (1, 1), (1, 2, 3), (0,), ((1, 1), (2, 2)), ("h",), ((1,), 1), (1.5, 2)),
)


def corrupted(graph: Graph, rng: random.Random) -> Graph:
    """One node with another instruction, operand, attribute or type."""
    nodes = list(graph.nodes)
    place = rng.randrange(len(nodes))
    nodes[place] = rng.choice(_ERRORS)(graph, nodes[place], rng)
    return replace(graph, nodes=tuple(nodes))


def _instruction(graph: Graph, node: Node, rng: random.Random) -> Node:
    opcode = rng.choice(OPCODES.names())
    defaults = [(k, a.default) for k, a in OPCODES[opcode].attributes.items()]
    attributes = tuple(
        (k, rng.choice(VALUES) if value is None else value) for k, value in defaults
    )
    return replace(node, opcode=opcode, attributes=attributes)


def _operands(graph: Graph, node: Node, rng: random.Random) -> Node:
    operands = list(node.operands)
    if operands:
        operands[rng.randrange(len(operands))] = rng.choice(list(graph.types))
    return replace(node, operands=tuple(operands))


def _arity(graph: Graph, node: Node, rng: random.Random) -> Node:
    more = (*node.operands, rng.choice(list(graph.types)))
    return replace(node, operands=rng.choice((node.operands[:-1], more)))


def _attribute(graph: Graph, node: Node, rng: random.Random) -> Node:
    attributes = list(node.attributes)
    if attributes:
        at = rng.randrange(len(attributes))
        key, _ = attributes.pop(at)
        if rng.random() < 0.7:
            attributes.insert(at, (key, rng.choice(VALUES)))
    return replace(node, attributes=tuple(attributes))


def _type(graph: Graph, node: Node, rng: random.Random) -> Node:
    return replace(node, type=rng.choice(list(graph.types.values())))


_ERRORS = (_instruction, _operands, _arity, _attribute, _type)


@pytest.mark.parametrize("first", range(30_000, 30_200, 40))
def test_only_refusals(first: int) -> None:
    refused = 0
    for seed in range(first, first + 40):
        graph, rng = random_graph(seed), random.Random(seed)
        for _ in range(10):
            found = corrupted(graph, rng)
            try:
                verify(found)
            except GosError as error:
                assert error.what
                refused += 1
            try:
                parse(found.text)
            except GosError as error:
                assert error.what
    assert refused > 300
