"""Crossover: a's ancestors of u, then b's descendants of v."""

from __future__ import annotations

import random

import pytest

from gos_fx.errors import VerifyError
from gos_fx.evolve.crossover import cross, split_points
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.ir.rewriter import Refusal, splice
from gos_fx.ir.verifier import verify

HEAD = "def f(x: map[N, C], *, a: weight[C], b: weight[C]) -> map[N, C]:"
A = parse(
    f"{HEAD}\n    v0 = add(x, a)\n    v1 = relu(v0)\n    v2 = sub(v1, b)\n    return v2"
)
B = parse(
    f"{HEAD}\n    v0 = tanh(x)\n    v1 = hadamard(v0, a)\n    v2 = sigmoid(v1)\n"
    "    v3 = hadamard(v2, b)\n    return v3"
)


def opcodes(graph: Graph) -> list[str]:
    return [node.opcode for node in graph.nodes]


def test_points_are_pairs_of_equal_type(conv: Graph) -> None:
    for graph in (A, conv):
        for u, v in split_points(graph, graph):
            assert graph.types[u] == graph.types[v]
            assert graph.types[u].role == "map"
    points = split_points(A, B)
    assert len(points) == len(set(points)) == 4 * 5 - 2
    assert ("x", "x") not in points and ("v2", "v3") not in points
    assert ("x", "v0") in points and ("v2", "x") in points


def test_the_child_is_the_ancestors_then_the_descendants() -> None:
    for u, v in split_points(A, B):
        child = verify(splice(A, u, B, v))
        left = [] if u == "x" else opcodes(A)[: int(u[1:]) + 1]
        right = opcodes(B) if v == "x" else opcodes(B)[int(v[1:]) + 1 :]
        assert opcodes(child) == left + right, (u, v)
        assert child.result == A.result


def test_types_decide(conv: Graph) -> None:
    """Between convolutions the maps meet maps and the images images."""
    for u, v in split_points(conv, conv):
        child = splice(conv, u, conv, v)
        assert child.result == conv.result and verify(child)
    pairs = split_points(conv, conv)
    assert ("v0", "v0") in pairs and not any(
        {u, v} & {"v0"} and u != v for u, v in pairs
    )


def test_the_child_is_deterministic_and_the_world_is_not_disturbed() -> None:
    random.seed(5)
    before = random.getstate()
    first = [cross(A, B, random.Random(seed)) for seed in range(8)]
    assert random.getstate() == before
    assert first == [cross(A, B, random.Random(seed)) for seed in range(8)]
    assert len({g.digest for g in first if isinstance(g, Graph)}) > 3


def test_every_pair_can_be_drawn_and_none_is_preferred() -> None:
    rng = random.Random(0)
    drawn = [cross(A, B, rng) for _ in range(1500)]
    counts: dict[str, int] = {}
    for child in drawn:
        assert isinstance(child, Graph)
        counts[child.digest] = counts.get(child.digest, 0) + 1
    texts = {splice(A, u, B, v).digest for u, v in split_points(A, B)}
    assert set(counts) == texts
    expected = 1500 / len(split_points(A, B))
    # Several pairs may give one child; none comes less often than a pair should.
    assert min(counts.values()) > 0.5 * expected


def test_without_a_common_type_it_is_refused() -> None:
    other = parse("def f(x: map[N, T]) -> map[N, T]:\n    v0 = relu(x)\n    return v0")
    refusal = cross(A, other, random.Random(0))
    assert refusal == Refusal("the graphs share no inner type")


def test_a_child_may_have_two_tiles_and_is_then_refused(conv: Graph) -> None:
    tiled = parse(conv.text.replace("return v3", "v4 = tile(v3, co=8)\n    return v4"))
    reasons = set()
    for u, v in split_points(tiled, tiled):
        child = splice(tiled, u, tiled, v)
        try:
            verify(child)
        except VerifyError as error:
            reasons.add(error.what)
    assert reasons == {"v3 has two of tile"}


@pytest.mark.parametrize("seed", range(3))
def test_weights_that_survive_are_used(seed: int) -> None:
    child = cross(A, B, random.Random(seed))
    assert isinstance(child, Graph)
    read = {name for node in child.nodes for name in node.operands}
    assert {v.name for v in child.weights} <= read
