"""Mutations: what they give, where they must not fire, and that all of it runs."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.evolve.crossover import cross
from gos_fx.evolve.mutations import MUTATIONS, Site, mutate
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.ir.projection import project
from gos_fx.ir.rewriter import Refusal
from gos_fx.ir.verifier import verify

Bindings = dict[str, int]


def load(name: str) -> Any:
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TEXTS = load("mutation_texts")
OTHER_SUBJECTS = {
    "change_gaps": TEXTS.CONV_3X3,
    "change_group_dilation": TEXTS.DEPTHWISE,
    "polynomial_batch_norm": TEXTS.BATCH_NORM,
    "complement": TEXTS.GATES,
    "merge_states": TEXTS.TWINS,
    "edit_body": TEXTS.TWO_STATES,
}
MORE_SIZES = {"C": 8, "T": 3}
# Edits that differ as sites and give one graph: an instruction before its equal and one
# behind it, and in the body of a scan the same for each kind of edit.
ALIKE = {"insert_instruction": 1, "edit_body": 12}


def originals(graph: Graph, site: Bindings) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {
        v.name: torch.randn([int(d) for d in v.type.shape], generator=generator)
        for v in graph.instantiate(site).weights
    }
    return {k: v.abs() + 0.5 if k == "var" else v for k, v in found.items()}


def run(graph: Graph, site: Bindings, weights: dict[str, Tensor]) -> Tensor:
    """At one site, every projection giving the shape that its weight declares."""
    concrete = verify(graph.instantiate(site))
    values = {}
    for template, value in zip(graph.weights, concrete.weights, strict=True):
        source = template.name if template.init is None else template.init
        values[value.name] = project(source, weights, site)
        assert tuple(values[value.name].shape) == value.type.shape
    generator = torch.Generator().manual_seed(1)
    for x in concrete.maps:
        shape = [int(d) for d in x.type.shape]
        values[x.name] = torch.randn(shape, generator=generator)
    result = evaluate(concrete, values)
    assert tuple(result.shape) == concrete.result.shape
    return result


def with_rank(conv: Graph) -> Graph:
    narrow = MUTATIONS["narrow_outputs"]
    child = narrow.apply(conv, narrow.sites(conv)[2])
    assert isinstance(child, Graph)
    return child


def scheduled(conv: Graph) -> Graph:
    text = conv.text.replace("return v3", "v4 = tile(v3, co=8)\n    return v4")
    return parse(text)


def root(name: str, conv: Graph, linear: Graph) -> Graph:
    """An original operator for the mutation."""
    if name in OTHER_SUBJECTS:
        return parse(OTHER_SUBJECTS[name])
    return linear if name == "factorize_product" else conv


def subject(name: str, conv: Graph, linear: Graph) -> Graph:
    """A graph on which the mutation has sites."""
    if name == "change_rank":
        return with_rank(conv)
    return scheduled(conv) if name == "drop_schedule" else root(name, conv, linear)


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_site_gives_a_valid_graph_or_a_reason(
    name: str, conv: Graph, linear: Graph, sites: tuple[Bindings, ...]
) -> None:
    graph, mutation = subject(name, conv, linear), MUTATIONS[name]
    places = mutation.sites(graph)
    assert places and places == mutation.sites(graph)
    sites = tuple(site | MORE_SIZES for site in sites)
    weights = [originals(root(name, conv, linear), site) for site in sites]
    children = []
    for place in places:
        child = mutation.apply(graph, place)
        if isinstance(child, Refusal):
            assert child.reason
            continue
        verify(child)
        assert child.result == graph.result and child != graph
        assert parse(child.text) == child
        children.append(child)
    assert len(set(children)) >= len(children) - ALIKE.get(name, 0)
    assert children
    for child in random.Random(0).sample(children, min(6, len(children))):
        for site, given in zip(sites, weights, strict=True):
            run(child, site, given)


EXACT = [name for name in MUTATIONS if MUTATIONS[name].exact]
SCHEDULES = ["change_tile", "change_unroll", "drop_schedule"]


@pytest.mark.parametrize("name", EXACT)
def test_exact_mutations_change_nothing(
    name: str, conv: Graph, linear: Graph, sites: tuple[Bindings, ...]
) -> None:
    graph, mutation = subject(name, conv, linear), MUTATIONS[name]
    for site in sites:
        site = site | MORE_SIZES
        weights = originals(root(name, conv, linear), site)
        expected = run(graph, site, weights)
        for place in mutation.sites(graph):
            child = mutation.apply(graph, place)
            assert isinstance(child, Graph)
            if name in SCHEDULES:
                assert child.without_schedule() == graph.without_schedule()
            found = run(child, site, weights)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_is_declared_exact() -> None:
    assert set(EXACT) == {*SCHEDULES, "polynomial_batch_norm", "merge_states"}


HEAD = "def conv2d(x: map[N, C_in, H, W], *, "
TAIL = "b: weight[C_out]) -> map[N, C_out, H_out, W_out]:"
OWN = "w: weight[C_out, C_in, K_h, K_w], "
RANK = "ceildiv(2 * min(C_in, C_out), 8)"
GOLDEN = {
    ("narrow_outputs", "v0", "eighths", 2): f"""\
{HEAD}w1: weight[{RANK}, C_in, K_h, K_w] = narrow(w, rank={RANK}), w2: weight[C_out, {RANK}, 1, 1] = expand(w, rank={RANK}), {TAIL}
    v0 = cross_correlation(x, w1, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = cross_correlation(v1, w2, stride=(1, 1), dilation=(1, 1), groups=1)
    v3 = sum(v2, axis="ci")
    v4 = add(v3, b)
    v5 = relu(v4, slope=0.0)
    return v5""",  # noqa: E501
    ("narrow_inputs", "v0", "eighths", 2): f"""\
{HEAD}w1: weight[{RANK}, C_in, 1, 1] = squeeze(w, rank={RANK}), w2: weight[C_out, {RANK}, K_h, K_w] = widen(w, rank={RANK}), {TAIL}
    v0 = cross_correlation(x, w1, stride=(1, 1), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = cross_correlation(v1, w2, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v3 = sum(v2, axis="ci")
    v4 = add(v3, b)
    v5 = relu(v4, slope=0.0)
    return v5""",  # noqa: E501
    ("separate_axes", "v0", "eighths", 2): f"""\
{HEAD}w1: weight[{RANK}, C_in, K_h, 1] = rows(w, rank={RANK}), w2: weight[C_out, {RANK}, 1, K_w] = columns(w, rank={RANK}), {TAIL}
    v0 = cross_correlation(x, w1, stride=(S_h, 1), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = cross_correlation(v1, w2, stride=(1, S_w), dilation=(1, 1), groups=1)
    v3 = sum(v2, axis="ci")
    v4 = add(v3, b)
    v5 = relu(v4, slope=0.0)
    return v5""",  # noqa: E501
    ("separate_channels", "v0"): f"""\
{HEAD}w1: weight[C_in, 1, K_h, K_w] = depthwise(w), w2: weight[C_out, C_in, 1, 1] = pointwise(w), {TAIL}
    v0 = cross_correlation(x, w1, stride=(S_h, S_w), dilation=(1, 1), groups=C_in)
    v1 = sum(v0, axis="ci")
    v2 = cross_correlation(v1, w2, stride=(1, 1), dilation=(1, 1), groups=1)
    v3 = sum(v2, axis="ci")
    v4 = add(v3, b)
    v5 = relu(v4, slope=0.0)
    return v5""",  # noqa: E501
    ("coarsen", "v0"): f"""\
{HEAD}{OWN}{TAIL}
    v0 = avg_pool(x, kernel=(2, 2), stride=(2, 2), include_pad=False)
    v1 = cross_correlation(v0, w, stride=(1, 1), dilation=(1, 1), groups=1)
    v2 = sum(v1, axis="ci")
    v3 = resize(v2, size=(H_out, W_out))
    v4 = add(v3, b)
    v5 = relu(v4, slope=0.0)
    return v5""",
    ("change_groups", "v0", "groups", 4): f"""\
{HEAD}w1: weight[C_out, C_in // 4, K_h, K_w] = blocks(w, groups=4), {TAIL}
    v0 = cross_correlation(x, w1, stride=(S_h, S_w), dilation=(1, 1), groups=4)
    v1 = sum(v0, axis="ci")
    v2 = add(v1, b)
    v3 = relu(v2, slope=0.0)
    return v3""",
    ("change_kernel", "v0", "kernel", (1, 3)): f"""\
{HEAD}w1: weight[C_out, C_in, 1, 3] = centre(w, height=1, width=3), {TAIL}
    v0 = cross_correlation(x, w1, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = add(v1, b)
    v3 = relu(v2, slope=0.0)
    return v3""",
    ("change_aggregation", "v1", "opcode", "weighted_mean"): f"""\
{HEAD}{OWN}w1: weight[C_in] = ones(size=C_in), {TAIL}
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v1 = weighted_mean(v0, w1, axis="ci")
    v2 = add(v1, b)
    v3 = relu(v2, slope=0.0)
    return v3""",
    ("insert_instruction", "v1", "opcode", "hadamard"): f"""\
{HEAD}{OWN}w1: weight[C_out] = ones(size=C_out), {TAIL}
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = hadamard(v1, w1)
    v3 = add(v2, b)
    v4 = relu(v3, slope=0.0)
    return v4""",
    ("change_tile", "v1", "co", 8): f"""\
{HEAD}{OWN}{TAIL}
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = tile(v1, co=8)
    v3 = add(v2, b)
    v4 = relu(v3, slope=0.0)
    return v4""",
}


def place(name: str, graph: Graph, node: str, *setting: object) -> Site:
    (found,) = [
        site
        for site in MUTATIONS[name].sites(graph)
        if site.node == node and (not setting or setting in site.settings)
    ]
    return found


@pytest.mark.parametrize("where", GOLDEN, ids=lambda where: where[0])
def test_golden(where: tuple[str, ...], conv: Graph) -> None:
    name, node, *setting = where
    child = MUTATIONS[name].apply(conv, place(name, conv, node, *setting))
    assert isinstance(child, Graph) and child.text == GOLDEN[where]


def test_golden_product(linear: Graph) -> None:
    child = MUTATIONS["factorize_product"].apply(
        linear, place("factorize_product", linear, "v1", "eighths", 2)
    )
    assert isinstance(child, Graph)
    assert child.text.splitlines()[1:] == [
        "    v0 = transpose(w1, axes=(1, 0))",
        "    v1 = matmul(x, v0)",
        "    v2 = transpose(w2, axes=(1, 0))",
        "    v3 = matmul(v1, v2)",
        "    v4 = add(v3, b)",
        "    return v4",
    ]
    assert [str(v.init) for v in child.weights] == [
        f"right_factor(w, rank={RANK})",
        f"left_factor(w, rank={RANK})",
        "None",
    ]


def test_a_second_size_joins_the_tile(conv: Graph) -> None:
    graph = MUTATIONS["change_tile"].apply(
        conv, place("change_tile", conv, "v1", "co", 8)
    )
    assert isinstance(graph, Graph)
    tiles = MUTATIONS["change_tile"].sites(graph)
    assert {site.node for site in tiles} == {"v2"}  # no second tile on the value
    child = MUTATIONS["change_tile"].apply(
        graph, place("change_tile", graph, "v2", "wo", 7)
    )
    assert isinstance(child, Graph)
    assert child.by_name["v2"].attrs == {"co": 8, "wo": 7}


def text_with(kernel: str, groups: str = "1") -> Graph:
    per_group = "1" if groups == "C_in" else "C_in"
    outputs = "C_in" if groups == "C_in" else "C_out"
    return parse(
        f"""\
def conv2d(x: map[N, C_in, H, W], *, w: weight[{outputs}, {per_group}, {kernel}]) -> map[N, {outputs}, H_out, W_out]:
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups={groups})
    v1 = sum(v0, axis="ci")
    return v1"""  # noqa: E501
    )


def test_where_there_is_no_site(conv: Graph, linear: Graph) -> None:
    point, depthwise = text_with("1, 1"), text_with("3, 3", "C_in")
    for name in (
        "narrow_inputs",
        "separate_axes",
        "separate_channels",
        "change_kernel",
    ):
        assert MUTATIONS[name].sites(point) == ()
    for name in ("narrow_outputs", "separate_channels", "change_groups", "coarsen"):
        assert MUTATIONS[name].sites(depthwise) == ()
    coarse = MUTATIONS["coarsen"].apply(conv, place("coarsen", conv, "v0"))
    assert isinstance(coarse, Graph) and MUTATIONS["coarsen"].sites(coarse) == ()
    for name in ("factorize_product", "change_rank", "drop_schedule"):
        assert MUTATIONS[name].sites(conv) == ()
    for name in ("narrow_outputs", "change_kernel", "coarsen"):
        assert MUTATIONS[name].sites(linear) == ()


def reason(name: str, graph: Graph, site: Site) -> str:
    refusal = MUTATIONS[name].apply(graph, site)
    assert isinstance(refusal, Refusal)
    return refusal.reason


def test_refusals_have_reasons(conv: Graph) -> None:
    narrow = with_rank(conv)
    same = place(
        "change_rank", narrow, "ceildiv(3 * min(C_in, C_out), 8)", "eighths", 3
    )
    assert reason("change_rank", narrow, same) == "the rank is that already"
    row = text_with("1, 3")
    assert reason("separate_axes", row, MUTATIONS["separate_axes"].sites(row)[0]) == (
        "the kernel is one-dimensional already"
    )
    other = parse(
        "def f(x: map[N, C_in], *, w1: weight[C_in // 2, C_in] = "
        "right_factor(w, rank=C_in // 2)) -> map[N, C_in // 2]:\n"
        "    v0 = transpose(w1, axes=(1, 0))\n    v1 = matmul(x, v0)\n    return v1"
    )
    assert reason("change_rank", other, MUTATIONS["change_rank"].sites(other)[0]) == (
        "the rank is not a share of the channels"
    )
    one = parse("def f(x: map[N, C]) -> map[N, C]:\n    v0 = relu(x)\n    return v0")
    assert reason("delete_instruction", one, Site("v0", (("keep", "x"),))) == (
        "nothing would be left"
    )


def test_an_edit_that_does_not_fit_is_refused_with_a_reason() -> None:
    # The site's stride leads from its input grid, so nothing may pool before it.
    graph = text_with("3, 3")
    with pytest.raises(VerifyError, match="must start from the input grid"):
        parse(
            graph.text.replace("cross_correlation(x", "cross_correlation(p").replace(
                "    v0", "    p = max_pool(x, kernel=(2, 2), stride=(2, 2))\n    v0"
            )
        )
    lonely = parse("def f(x: map[N, C, T, H, W]) -> map[N, C, T, H, W]:\n    return x")
    name, refusal = mutate(lonely, random.Random(0))
    assert name == "none" and isinstance(refusal, Refusal)
    assert refusal.reason == "no mutation has a site in this graph"


def test_mutate_is_deterministic(conv: Graph) -> None:
    def chain(seed: int) -> list[str]:
        rng, graph, found = random.Random(seed), conv, []
        for _ in range(10):
            name, child = mutate(graph, rng)
            graph = graph if isinstance(child, Refusal) else child
            found.append(f"{name} {graph.digest}")
        return found

    assert chain(1) == chain(1) != chain(2)


@pytest.mark.parametrize("seed", range(3))
def test_random_chains_stay_valid_and_run(
    seed: int, conv: Graph, sites: tuple[Bindings, ...]
) -> None:
    """A hundred edits in a row from a pool: each child verifies at every site."""
    rng = random.Random(seed)
    pool, made = [conv], 0
    weights = [originals(conv, site) for site in sites]
    for step in range(100):
        parent = rng.choice(pool)
        if rng.random() < 0.3:
            child = cross(parent, rng.choice(pool), rng)
        else:
            _, child = mutate(parent, rng)
        if isinstance(child, Refusal):
            assert child.reason
            continue
        verify(child)
        assert child.result == conv.result and parse(child.text) == child
        assert child.text == verify(parse(child.text)).text
        try:
            for site in sites:
                verify(child.instantiate(site))
        except VerifyError as error:  # a template that does not fit is refused
            assert "groups do not divide" in error.what or "size" in error.what
            continue
        if step % 4 == 0:
            for site, given in zip(sites, weights, strict=True):
                run(child, site, given)
        made += 1
        pool = [*pool[-20:], child]
    assert made > 50
