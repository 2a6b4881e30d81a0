"""Edits of gates and states, and edits inside the body of a scan."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.evolve.crossover import cross
from gos_fx.evolve.mutations import MUTATIONS, Site, mutate
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.ir.projection import project
from gos_fx.ir.rewriter import Refusal
from gos_fx.ir.verifier import verify

CELL = """\
def layer(x: map[N, T, C], h0: map[N, C], c0: map[N, C], *, w_i: weight[C, C], w_f: weight[C, C]) -> map[N, T, C]:
    def cell(x: map[N, C], h: map[N, C], c: map[N, C], *, w_i: weight[C, C], w_f: weight[C, C]) -> (map[N, C], map[N, C]):
        v0 = matmul(x, w_i)
        v1 = sigmoid(v0)
        v2 = matmul(h, w_f)
        v3 = sigmoid(v2)
        v4 = hadamard(v3, c)
        v5 = add(v4, v1)
        v6 = {h}
        v7 = bundle(v6, {c})
        return v7
    v0 = scan(x, {h0}, {c0}, w_i, w_f, body=cell, states=("h", "c"))
    v1 = result(v0, index={index})
    return v1"""  # noqa: E501
LAYER = CELL.format(h="tanh(v5)", c="v5", h0="h0", c0="c0", index=0)
ALIKE = CELL.format(h="tanh(v5)", c="v6", h0="h0", c0="h0", index=1)
ALIKE = ALIKE.replace(", c0: map[N, C], *", ", *")
SITE = {"N": 2, "T": 4, "C": 8}


def run(graph: Graph, weights: dict[str, Tensor] | None = None) -> Any:
    generator = torch.Generator().manual_seed(2)
    concrete = verify(graph.instantiate(SITE))
    values = {
        v.name: torch.randn([int(d) for d in v.type.shape], generator=generator)
        for v in concrete.maps
    }
    given = originals() if weights is None else weights
    for template, value in zip(graph.weights, concrete.weights, strict=True):
        found = project(template.init or template.name, given, SITE)
        assert tuple(found.shape) == value.type.shape
        values[value.name] = found
    return evaluate(concrete, values)


def originals() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn(8, 8, generator=generator) for n in ("w_i", "w_f")}


def cell(graph: Graph) -> list[str]:
    """The instructions of the body."""
    (scan,) = (node for node in graph.nodes if node.opcode == "scan")
    body: Graph = scan.attr("body")
    return [line.strip() for line in body.text.splitlines()[1:-1]]


def inner(graph: Graph, name: str, node: str, **settings: Any) -> Graph | Refusal:
    site = Site(node, tuple(settings.items()))
    (scan,) = (n.name for n in graph.nodes if n.opcode == "scan")
    outer = Site(scan, (("mutation", name), ("site", site)))
    assert outer in MUTATIONS["edit_body"].sites(graph)
    return MUTATIONS["edit_body"].apply(graph, outer)


def made(child: Graph | Refusal) -> Graph:
    assert isinstance(child, Graph), child
    assert parse(child.text) == child
    return verify(child)


def test_complement_golden() -> None:
    head = "def f(x: map[N, C], y: map[N, C]) -> map[N, C]:\n"
    graph = parse(
        f"{head}    v0 = sigmoid(x)\n    v1 = hadamard(v0, x)\n"
        "    v2 = sigmoid(y)\n    v3 = add(v1, v2)\n    return v3"
    )
    site = Site("v0", (("other", "v2"),))
    assert site in MUTATIONS["complement"].sites(graph)
    assert made(MUTATIONS["complement"].apply(graph, site)).text == (
        f"{head}    v0 = sigmoid(y)\n    v1 = scalar(value=1.0)\n"
        "    v2 = sub(v1, v0)\n    v3 = hadamard(v2, x)\n"
        "    v4 = add(v3, v0)\n    return v4"
    )


def test_a_step_that_nothing_reads_any_more_is_refused() -> None:
    graph = parse(LAYER)
    child = inner(graph, "complement", "v1", other="v3")
    # Without its input the cell is no cell any more.
    assert child == Refusal("x does not reach the output")


def test_no_gate_is_the_complement_of_what_it_leads_to() -> None:
    graph = parse(
        "def f(x: map[N, C]) -> map[N, C]:\n    v0 = sigmoid(x)\n"
        "    v1 = sigmoid(v0)\n    v2 = hadamard(v0, v1)\n    return v2"
    )
    assert MUTATIONS["complement"].sites(graph) == (Site("v1", (("other", "v0"),)),)
    child = made(MUTATIONS["complement"].apply(graph, Site("v1", (("other", "v0"),))))
    x = torch.randn(2, 8)
    found = evaluate(child.instantiate(SITE), {"x": x})
    z = torch.sigmoid(x)
    torch.testing.assert_close(found, z * (1 - z))


def test_merged_states_golden() -> None:
    graph = parse(ALIKE)
    (site,) = MUTATIONS["merge_states"].sites(graph)
    child = made(MUTATIONS["merge_states"].apply(graph, site))
    assert child.text.splitlines()[-4:] == [
        "        return v6",
        '    v0 = scan(x, h0, w_i, w_f, body=cell, states=("h",))',
        "    v1 = result(v0, index=0)",
        "    return v1",
    ]
    assert cell(child)[4] == "v4 = hadamard(v3, h)"
    torch.testing.assert_close(run(child), run(graph))
    assert MUTATIONS["merge_states"].sites(child) == ()


@pytest.mark.parametrize(
    ("old", "new"), [("bundle(v6, v6)", "bundle(v6, v5)"), ("scan(x, h0, h0", "")]
)
def test_states_that_differ_stay_two(old: str, new: str) -> None:
    text = ALIKE.replace(old, new) if new else LAYER.replace("v6, v5", "v6, v6")
    assert MUTATIONS["merge_states"].sites(parse(text)) == ()


def test_first_states_that_are_made_alike_are_one() -> None:
    text = ALIKE.replace(", h0: map[N, C], *", ", *").replace("scan(x, h0, h0", "scan(")
    text = text.replace("    v1 = result(v0", "    v3 = result(v2")
    text = text.replace("    v0 = scan(", "    v2 = scan(x, v0, v1").replace(
        "    return v1", "    return v3"
    )
    zeros = "    v0 = zeros(shape=(N, C))\n    v1 = zeros(shape=(N, C))\n    v2 = scan"
    graph = parse(text.replace("    v2 = scan", zeros))
    (site,) = MUTATIONS["merge_states"].sites(graph)
    child = made(MUTATIONS["merge_states"].apply(graph, site))
    torch.testing.assert_close(run(child), run(graph))


def test_states_that_are_read_together_stay() -> None:
    text = ALIKE.replace("    v1 = result(v0, index=1)\n    return v1", "    return v0")
    text = text.replace("-> map[N, T, C]:", "-> (map[N, T, C], map[N, T, C]):")
    graph = parse(text)
    (site,) = MUTATIONS["merge_states"].sites(graph)
    refusal = MUTATIONS["merge_states"].apply(graph, site)
    assert refusal == Refusal("the states are read together")


def test_new_weights_of_a_body_come_from_outside() -> None:
    graph = parse(LAYER)
    child = made(inner(graph, "factorize_product", "v2", eighths=4))
    assert {v.name: str(v.init) for v in child.weights} == {
        "w_i": "None",
        "w1": "left_factor(w_f, rank=ceildiv(4 * C, 8))",
        "w2": "right_factor(w_f, rank=ceildiv(4 * C, 8))",
    }
    assert cell(child)[2:4] == ["v2 = matmul(h, w1)", "v3 = matmul(v2, w2)"]
    weights = originals()
    u, s, v = torch.linalg.svd(weights["w_f"])
    low = {**weights, "w_f": u[:, :4] * s[:4] @ v[:4]}
    torch.testing.assert_close(run(child), run(graph, low), rtol=1e-4, atol=1e-5)
    # A factor of a factor still comes from the original.
    again = made(inner(child, "factorize_product", "v3", eighths=2))
    inits = [str(v.init) for v in again.weights]
    assert any(i.startswith("left_factor(right_factor(w_f") for i in inits)
    run(again)


def test_a_rank_changes_inside_and_outside() -> None:
    child = made(inner(parse(LAYER), "factorize_product", "v2", eighths=4))
    sites = MUTATIONS["change_rank"].sites(child)
    (site,) = (site for site in sites if site["eighths"] == 2)
    narrower = made(MUTATIONS["change_rank"].apply(child, site))
    assert "ceildiv(4" not in narrower.text
    run(narrower)


def test_a_gain_in_a_body_is_exact_at_first() -> None:
    graph = parse(LAYER)
    child = made(inner(graph, "insert_instruction", "v4", opcode="hadamard"))
    assert [str(v.init) for v in child.weights if v.init] == ["ones(size=C)"]
    torch.testing.assert_close(run(child), run(graph))


def test_weights_that_are_computed_outside_have_no_projection() -> None:
    text = LAYER.replace(
        "    v0 = scan(", "    v9 = transpose(w_f, axes=(1, 0))\n    v0 = scan("
    )
    graph = parse(text.replace("w_i, w_f, body", "w_i, v9, body"))
    refusal = inner(graph, "factorize_product", "v2", eighths=4)
    assert refusal == Refusal("the weight is computed outside of the body")
    assert made(inner(graph, "delete_instruction", "v6", keep="v5"))


def test_a_weight_that_goes_in_twice_is_left_alone() -> None:
    graph = parse(
        LAYER.replace("w_i, w_f, body", "w_i, w_i, body").replace(
            ", w_f: weight[C, C]) -> map[N, T, C]:", ") -> map[N, T, C]:"
        )
    )
    assert MUTATIONS["edit_body"].sites(graph) == ()
    rng = random.Random(0)
    assert MUTATIONS["edit_body"].draw(graph, rng) is None
    site = Site("v0", (("mutation", "delete_instruction"), ("site", Site("v6"))))
    refusal = MUTATIONS["edit_body"].apply(graph, site)
    assert refusal == Refusal("a weight goes into the body twice")


@pytest.mark.parametrize("seed", range(2))
def test_random_edits_of_a_cell_stay_valid_and_run(seed: int) -> None:
    rng = random.Random(seed)
    pool, made_of, names = [parse(LAYER)], 0, set()
    for _ in range(80):
        parent = rng.choice(pool)
        if rng.random() < 0.25:
            name, child = "crossover", cross(parent, rng.choice(pool), rng)
        else:
            name, child = mutate(parent, rng)
        if isinstance(child, Refusal):
            assert child.reason
            continue
        verify(child)
        assert child.result == pool[0].result and parse(child.text) == child
        run(child)
        pool, made_of = [*pool[-10:], child], made_of + 1
        names.add(name)
    assert made_of > 50 and {"edit_body", "crossover"} <= names
