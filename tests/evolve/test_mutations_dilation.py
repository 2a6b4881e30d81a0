"""Gaps inside filters, dilations of runs of groups, the polynomial batch norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.evolve.mutations import MUTATIONS, Site
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.ir.projection import project
from gos_fx.ir.rewriter import Refusal

CONV = """\
def conv2d(x: map[N, C_in, H, W], *, w: weight[{outputs}, {inputs}, {kernel}]) -> map[N, {outputs}, H_out, W_out]:
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation={dilation}, groups={groups}{more})
    v1 = sum(v0, axis="ci")
    return v1"""  # noqa: E501
NORM = """\
def norm(x: map[N, C_in, H, W], *, mean: constant[C_in], var: constant[C_in], gain: weight[C_in], shift: weight[C_in]) -> map[N, C_in, H, W]:
    v0 = sub(x, mean)
    v1 = sqrt(var)
    v2 = div(v0, v1)
    v3 = hadamard(v2, gain)
    v4 = add(v3, shift)
    return v4"""  # noqa: E501
SITE = {"N": 2, "C_in": 4, "C_out": 6, "H": 8, "W": 9, "H_out": 8, "W_out": 9}
SITE |= dict.fromkeys(("S_h", "S_w", "P_h", "P_w", "D_h", "D_w"), 1)
SITE |= {"K_h": 3, "K_w": 3, "G": 2}


def dense(dilation: str = "(1, 1)", kernel: str = "3, 3") -> Graph:
    sizes = {"outputs": "C_out", "inputs": "C_in", "groups": "1", "more": ""}
    return parse(CONV.format(dilation=dilation, kernel=kernel, **sizes))


def depthwise(runs: str = "", dilation: str = "(1, 1)", groups: str = "C_in") -> Graph:
    more = f", group_dilation={runs}" if runs else ""
    inputs = "1" if groups == "C_in" else f"C_in // {groups}"
    outputs = "C_in" if groups == "C_in" else "C_out"
    sizes = {"outputs": outputs, "inputs": inputs, "kernel": "3, 3", "more": more}
    return parse(CONV.format(dilation=dilation, groups=groups, **sizes))


def edit(name: str, graph: Graph, node: str, **settings: Any) -> Graph:
    site = Site(node, tuple(settings.items()))
    assert site in MUTATIONS[name].sites(graph)
    child = MUTATIONS[name].apply(graph, site)
    assert isinstance(child, Graph)
    return child


def gaps(graph: Graph, axis: int, gap: int, zeros: int) -> Graph:
    return edit("change_gaps", graph, "v0", axis=axis, gap=gap, zeros=zeros)


def runs(graph: Graph, **settings: Any) -> Graph:
    return edit("change_group_dilation", graph, "v0", **settings)


def run(graph: Graph) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    concrete = graph.instantiate(SITE)
    values = {
        v.name: torch.rand([int(d) for d in v.type.shape]) + 0.5
        for v in concrete.inputs
    }
    found: Tensor = evaluate(concrete, values)
    return values, found


def test_gaps_golden() -> None:
    child = gaps(dense(), 1, 0, 2)
    assert child == dense("(1, (3, 1))")
    assert gaps(child, 0, 1, 1) == dense("((1, 2), (3, 1))")


def test_equal_gaps_are_one_dilation() -> None:
    child = gaps(gaps(dense(), 1, 0, 2), 1, 1, 2)
    assert child == dense("(1, 3)")
    assert gaps(gaps(child, 1, 0, 0), 1, 1, 0) == dense()


def test_every_gap_has_four_sizes() -> None:
    # Two axes with two gaps each, and three sizes that each does not have yet.
    assert len(MUTATIONS["change_gaps"].sites(dense())) == 2 * 2 * 3
    assert len(MUTATIONS["change_gaps"].sites(dense("((1, 5), 1)"))) == 3 + 4 + 2 * 3


def test_where_gaps_have_no_place() -> None:
    find = MUTATIONS["change_gaps"].sites
    assert find(dense(kernel="K_h, K_w")) == () and find(dense(kernel="1, 1")) == ()
    assert {site["axis"] for site in find(dense(kernel="K_h, 3"))} == {1}
    assert find(depthwise("((1, 2), (2, 1))")) == ()


def test_gaps_numerics() -> None:
    values, found = run(gaps(gaps(dense(), 1, 0, 2), 0, 1, 1))
    wide = torch.zeros(6, 4, 4, 5)
    for i, row in enumerate((0, 1, 3)):
        for j, column in enumerate((0, 3, 4)):
            wide[:, :, row, column] = values["w"][:, :, i, j]
    expected = F.conv2d(F.pad(values["x"], (2, 2, 1, 2)), wide)
    torch.testing.assert_close(found, expected)


def test_runs_golden() -> None:
    child = runs(depthwise(), runs=2, first=1)
    assert child == depthwise("((1, 2), (1, 3))")
    assert runs(child, runs=2, run=1, to=(2, 3)) == depthwise("((1, 2), (2, 3))")
    assert runs(child, runs=0) == depthwise()  # one dilation for all again


def test_where_runs_have_no_place() -> None:
    find = MUTATIONS["change_group_dilation"].sites
    assert find(dense()) == () and find(depthwise(dilation="(1, 2)")) == ()
    assert {site["runs"] for site in find(depthwise())} == {2, 4, 8}
    # As many runs as channels, where these are counted; else what divides them.
    assert {site["runs"] for site in find(depthwise(groups="6"))} == {2, 6}


def test_runs_that_do_not_fit_a_site_are_refused_there() -> None:
    child = runs(depthwise(), runs=8, first=0)
    with pytest.raises(Exception, match="8 runs do not divide 4 groups"):
        child.instantiate(SITE)


def test_runs_numerics() -> None:
    own = ((1, 3), (2, 1), (2, 2), (3, 3))
    child = runs(depthwise(), runs=4, first=2)
    values, found = run(runs(child, runs=4, run=3, to=(3, 3)))
    expected = [
        F.conv2d(values["x"][:, c : c + 1], w[None], padding=d, dilation=d)
        for c, (d, w) in enumerate(zip(own, values["w"], strict=True))
    ]
    torch.testing.assert_close(found, torch.cat(expected, 1))


def polynomial(graph: Graph) -> Graph:
    return edit("polynomial_batch_norm", graph, "v3")


def test_polynomial_golden() -> None:
    child = polynomial(parse(NORM))
    assert child.text.splitlines()[1:] == [
        "    v0 = sub(x, mean)",
        "    v1 = sqrt(var)",
        "    v2 = div(v0, v1)",
        "    v3 = hadamard(v0, v0)",
        "    v4 = hadamard(v3, v0)",
        "    v5 = hadamard(v4, w1)",
        "    v6 = hadamard(v2, v5)",
        "    v7 = hadamard(v0, w2)",
        "    v8 = add(v6, v7)",
        "    v9 = add(v8, shift)",
        "    return v9",
    ]
    inits = {v.name: str(v.init) for v in child.weights if v.init is not None}
    assert inits == {"w1": "zeros(size=C_in)", "w2": "over_deviation(gain, var)"}


def test_polynomial_starts_as_the_batch_norm() -> None:
    graph = parse(NORM)
    values, expected = run(graph)
    concrete = polynomial(graph).instantiate(SITE)
    for value, template in zip(
        concrete.weights, polynomial(graph).weights, strict=True
    ):
        source = template.init or template.name
        values[value.name] = project(source, values, SITE)
    torch.testing.assert_close(evaluate(concrete, values), expected)


def test_where_there_is_no_batch_norm() -> None:
    find = MUTATIONS["polynomial_batch_norm"].sites
    assert find(polynomial(parse(NORM))) == ()  # it is one already
    assert find(parse(NORM.replace("sqrt(var)", "relu(var)"))) == ()
    assert find(parse(NORM.replace("hadamard(v2, gain)", "hadamard(gain, v2)"))) == ()
    assert find(dense()) == ()


def test_a_variance_of_the_input_is_refused() -> None:
    text = NORM.replace(", var: constant[C_in]", "").replace("sqrt(var)", "sqrt(v9)")
    text = text.replace("    v1 =", "    v9 = hadamard(v0, v0)\n    v1 =")
    graph = parse(text)
    (site,) = MUTATIONS["polynomial_batch_norm"].sites(graph)
    refusal = MUTATIONS["polynomial_batch_norm"].apply(graph, site)
    assert refusal == Refusal("the variance is no weight")
