"""Uneven taps as correlations with even ones: the same values under the same names."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gos_fx.ir.decompose import decompose
from gos_fx.ir.fusion import partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.network import Network
from gos_fx.ir.parser import parse
from gos_fx.ir.verifier import verify

COLUMNS = "dilation=(1, (1, 2)), groups=1, padding=(1, 1, 1, 2)"
BOTH = "dilation=((2, 1), (1, 1, 3)), groups=1, padding=(1, 2, 2, 3)"
TWO = "dilation=(1, 1), groups=4, padding=(2, 2, 2, 2)"
RUNS = f"{TWO}, group_dilation=((1, 2), (2, 1), (2, 1), (2, (1, 2)))"


def graph(attributes: str, kernel: str, per_group: int = 4, body: str = "") -> Graph:
    body = body or 'v1 = sum(v0, axis="ci"); v2 = add(v1, b); return v2'
    more = "".join(
        f", {name}: weight[{size}]"
        for name, size in (("b", 4), ("g", per_group))
        if f", {name}" in body
    )
    lines = body.replace("; ", "\n    ")
    return parse(f"""\
def f(x: map[2, 4, 9, 8], *, w: weight[4, {per_group}, {kernel}]{more}) -> map[2, 4, 9, 8]:
    v0 = cross_correlation(x, w, stride=(1, 1), {attributes})
    {lines}""")  # noqa: E501


def opcodes(found: Graph | Network) -> list[str]:
    return [node.opcode for node in found.nodes]


APART = f"{TWO}, group_dilation=((1, 2), (2, 1), (1, 2), (2, 1))"
BODIES = {
    "sum": "",
    "mean": 'v1 = mean(v0, axis="ci"); v2 = add(v1, b); return v2',
    "weighted": 'v1 = weighted_mean(v0, g, axis="ci"); return v1',
    "largest": 'v1 = max(v0, axis="ci"); return v1',
    "scheduled": 'v1 = unroll(v0, kw=2); v2 = sum(v1, axis="ci"); v3 = tile(v2, wo=2); '
    "v4 = add(v3, b); return v4",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(
    ("attributes", "kernel", "per_group"),
    [(COLUMNS, "3, 3", 4), (BOTH, "3, 4", 4), (RUNS, "3, 3", 1), (APART, "3, 3", 1)],
    ids=["columns", "both", "runs", "apart"],
)
def test_values_stay(attributes: str, kernel: str, per_group: int, body: str) -> None:
    whole = graph(attributes, kernel, per_group, body)
    torch.manual_seed(0)
    values = {
        v.name: torch.rand([int(d) for d in v.type.shape]) + 0.1 for v in whole.inputs
    }
    parts = verify(decompose(whole))
    assert parts.output == whole.output and set(whole.types) - set(parts.types) <= {
        "v0",
        "v1",
    }
    for node in parts.nodes:
        if node.opcode == "cross_correlation":
            assert all(isinstance(d, int) for d in node.attr("dilation"))
            assert "group_dilation" not in node.attrs
    torch.testing.assert_close(
        evaluate(parts, values), evaluate(whole, values), rtol=1e-5, atol=1e-5
    )
    assert decompose(parts) is parts


def test_three_columns_are_two_correlations() -> None:
    parts = decompose(graph(COLUMNS, "3, 3"))
    assert opcodes(parts) == [
        *("slice", "cross_correlation", "sum"),
        *("slice", "cross_correlation", "sum", "add", "add"),
    ]
    first, second = (n for n in parts.nodes if n.opcode == "cross_correlation")
    assert [parts.types[n.operands[1]].shape for n in (first, second)] == [
        (4, 4, 3, 2),
        (4, 4, 3, 1),
    ]
    assert first.attr("padding") == (1, 1, 1, 0)
    assert second.attr("padding") == (1, 1, -2, 2)
    kernels = [k for k in partition(parts) if k.is_summed]
    assert [[n.opcode for n in k.nodes] for k in kernels] == [
        ["cross_correlation", "sum"],
        ["cross_correlation", "sum", "add", "add"],  # nothing more is stored
    ]


def test_runs_of_one_dilation_are_one_correlation() -> None:
    parts = decompose(graph(RUNS, "3, 3", 1))
    found = [n for n in parts.nodes if n.opcode == "cross_correlation"]
    assert [n.attr("groups") for n in found] == [1, 2, 1, 1]  # the last in two parts
    assert opcodes(parts)[-2:] == ["concat", "add"]
    parts = decompose(graph(APART, "3, 3", 1))
    found = [n for n in parts.nodes if n.opcode == "cross_correlation"]
    assert [n.attr("groups") for n in found] == [2, 2]


def test_equal_gaps_are_a_dilation() -> None:
    parts = decompose(
        graph("dilation=((2, 2), 1), groups=1, padding=(2, 2, 1, 1)", "3, 3")
    )
    (node,) = (n for n in parts.nodes if n.opcode == "cross_correlation")
    assert node.attr("dilation") == (2, 1) and node.attr("padding") == (2, 2, 1, 1)
    x, w, b = torch.randn(2, 4, 9, 8), torch.randn(4, 4, 3, 3), torch.randn(4)
    found = evaluate(parts, {"x": x, "w": w, "b": b})
    expected = F.conv2d(x, w, b, padding=(2, 1), dilation=(2, 1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_even_taps_are_left_alone() -> None:
    plain = graph("dilation=(2, 1), groups=1, padding=(2, 2, 1, 1)", "3, 3")
    assert decompose(plain) is plain


def test_the_parts_belong_to_the_operator() -> None:
    network = Network.of(graph(COLUMNS, "3, 3"))
    parts = decompose(network)
    assert parts.outputs == network.outputs
    assert {parts.owners[node.name] for node in parts.nodes} == {"f"}
