"""Candidates from the declarations, values combined, and how an edit is drawn."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.evolve.mutations import MUTATIONS, Site, mutate
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.ir.rewriter import Refusal


def graph(*lines: str, maps: str = "x: map[N, C], y: map[N, C]") -> Graph:
    result = maps.split("map[")[1].split("]")[0]
    body = "\n".join(f"    {line}" for line in lines)
    last = lines[-1].split(" ")[0]
    return parse(f"def f({maps}) -> map[{result}]:\n{body}\n    return {last}")


def swaps(of: Graph, node: str) -> set[str]:
    sites = MUTATIONS["swap_instruction"].sites(of)
    return {site["opcode"] for site in sites if site.node == node}


IMAGE, MATRIX = "x: map[N, C, H, W]", "x: map[N, 4, 4]"


@pytest.mark.parametrize(
    ("line", "maps", "wanted", "unwanted"),
    [
        ("v0 = relu(x)", IMAGE, {"sigmoid", "tanh", "softmax"}, {"relu", "concat"}),
        (
            "v0 = max_pool(x, kernel=(2, 2), stride=(2, 2))",
            IMAGE,
            {"avg_pool"},
            {"relu", "max_pool"},
        ),
        ("v0 = inverse(x)", MATRIX, {"pinv", "cholesky"}, {"det", "svd", "inverse"}),
        ("v0 = relu(x)", IMAGE, set(), {"inverse", "pinv", "svd", "matrix_norm"}),
        ("v0 = add(x, y)", "x: map[N, C], y: map[N, C]", {"sub", "max"}, {"concat"}),
        ("v0 = tile(x, co=4)", IMAGE, set(), {"unroll", "relu"}),
        ("v0 = transpose(x, axes=(0, 2, 1))", MATRIX, set(), {"relu"}),
    ],
)
def test_what_fits_is_read_off_the_declarations(
    line: str, maps: str, wanted: set[str], unwanted: set[str]
) -> None:
    body = (line,) if "tile" not in line else ("v9 = relu(x)", "v0 = tile(v9, co=4)")
    of = graph(*body, maps=maps) if "max_pool" not in line else pooled(line)
    node = of.nodes[-1].name
    assert wanted <= swaps(of, node) and not unwanted & swaps(of, node)


def pooled(line: str) -> Graph:
    return parse(
        "def f(x: map[N, C, H, W]) -> map[N, C, ceildiv(H, 2), ceildiv(W, 2)]:\n"
        f"    {line}\n    return v0"
    )


def test_a_number_counts_among_the_operands() -> None:
    of = graph("one = scalar(value=1.0)", "v1 = sub(one, x)", maps="x: map[N, C]")
    sites = MUTATIONS["swap_instruction"].sites(of)
    assert {"add", "hadamard", "max"} <= {s["opcode"] for s in sites if s.node == "v1"}
    site = next(s for s in sites if s.node == "v1" and s["opcode"] == "hadamard")
    child = MUTATIONS["swap_instruction"].apply(of, site)
    assert isinstance(child, Graph) and child.nodes[1].operands == ("v0", "x")


def test_pools_keep_their_window() -> None:
    of = pooled("v0 = max_pool(x, kernel=(3, 2), stride=(2, 2))")
    (site,) = MUTATIONS["swap_instruction"].sites(of)
    child = MUTATIONS["swap_instruction"].apply(of, site)
    assert isinstance(child, Graph)
    assert "avg_pool(x, kernel=(3, 2), stride=(2, 2), include_pad=False)" in child.text


GATED = ("v0 = relu(x)", "v1 = sigmoid(v0)", "v2 = tanh(y)", "v3 = add(v1, v2)")


def pairs(of: Graph, opcode: str) -> set[tuple[str, str]]:
    sites = MUTATIONS["insert_binary"].sites(of)
    return {(s.node, s["other"]) for s in sites if s["opcode"] == opcode}


def binary(of: Graph, node: str, other: str, opcode: str) -> Graph:
    settings = (("opcode", opcode), ("attributes", ()), ("other", other))
    child = MUTATIONS["insert_binary"].apply(of, Site(node, settings))
    assert isinstance(child, Graph)
    return child


def test_two_values_are_combined() -> None:
    assert binary(graph(*GATED), "v2", "v0", "hadamard") == graph(
        *GATED[:3], "v4 = hadamard(v2, v0)", "v5 = add(v1, v4)"
    )


def test_a_value_that_comes_later_is_computed_before() -> None:
    of = graph(*GATED)
    child = binary(of, "v0", "v2", "hadamard")
    assert child == graph(
        *("v0 = tanh(y)", "v1 = relu(x)", "v2 = hadamard(v1, v0)"),
        *("v3 = sigmoid(v2)", "v4 = add(v3, v0)"),
    )
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    expected = torch.sigmoid(torch.relu(x) * torch.tanh(y)) + torch.tanh(y)
    found = evaluate(child.instantiate({"N": 2, "C": 3}), {"x": x, "y": y})
    torch.testing.assert_close(found, expected)


def test_nothing_is_combined_with_what_depends_on_it() -> None:
    found = pairs(graph(*GATED), "hadamard")
    assert ("v1", "v0") in found and ("v0", "v2") in found and ("x", "y") in found
    for value, later in (("v0", "v1"), ("x", "v0"), ("v2", "v3")):
        assert (value, later) not in found
    assert all(a != b for a, b in found)


def test_either_operand_is_left_when_an_instruction_goes() -> None:
    of = graph(*GATED)
    sites = [s for s in MUTATIONS["delete_instruction"].sites(of) if s.node == "v3"]
    assert [site["keep"] for site in sites] == ["v1", "v2"]


def test_an_edit_that_changes_the_result_is_refused() -> None:
    of = graph("v0 = softmax(x)", maps="x: map[N, C]")
    settings = (
        ("opcode", "vector_norm"),
        ("attributes", (("ord", 2.0), ("axis", "n"))),
    )
    refusal = MUTATIONS["swap_instruction"].apply(of, Site("v0", settings))
    assert isinstance(refusal, Refusal) and refusal.reason
    wide = graph("v0 = relu(x)", maps="x: map[N, C, 4, 4]")
    flat = (("opcode", "matmul"), ("attributes", ()))
    refusal = MUTATIONS["swap_instruction"].apply(wide, Site("v0", flat))
    assert refusal == Refusal("matmul takes 2 operands, not 1")


def test_instructions_are_drawn_before_their_places() -> None:
    of = graph(*GATED)
    sites = MUTATIONS["insert_instruction"].sites(of)
    opcodes = {site["opcode"] for site in sites}
    rng = random.Random(0)
    drawn = Counter(
        site.opcode
        for _ in range(2000)
        if (site := MUTATIONS["insert_instruction"].draw(of, rng)) is not None
    )
    assert set(drawn) == opcodes
    share = 2000 / len(opcodes)
    assert all(0.6 * share < count < 1.5 * share for count in drawn.values())


def test_what_is_drawn_is_a_site() -> None:
    of, rng = graph(*GATED), random.Random(1)
    for name in MUTATIONS:
        sites = MUTATIONS[name].sites(of)
        for _ in range(5):
            site = MUTATIONS[name].draw(of, rng)
            assert (site is None) == (not sites) and (site is None or site in sites)
    name, child = mutate(of, rng)
    assert name in MUTATIONS and isinstance(child, Graph)
