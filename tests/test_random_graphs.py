"""A share of the random graphs of ``python -m benchmarks.random_graphs``, and what
larger runs of it found."""

from __future__ import annotations

import shutil
from dataclasses import replace

import onnxruntime
import pytest
import torch

from benchmarks.random_graphs.checks import check, check_graph
from benchmarks.random_graphs.compiled import check_compiled, disagreements
from benchmarks.random_graphs.generator import DRAWN, random_graph
from benchmarks.random_graphs.values import inputs_of
from gos_fx.errors import Unsupported
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.ir.verifier import Bounds, check_bounds, verify
from gos_fx.passes.onnx.graph import graph_to_onnx

IN_TORCH, ON_HOST, UNDER_QEMU = 500, 40, 5
# Of every hundred graphs.
MOST_EXCLUDED = 5

# What failed once, as small as it still failed.
FOUND = {
    "a step's value that is read in part": """\
def f(x: map[1, 5, 4, 5], *, w: weight[1, 3]) -> map[1, 5, 3]:
    def cell(x: map[1, 4, 5], h: map[1, 3]) -> map[1, 3]:
        v0 = sigmoid(x)
        v1 = slice(v0, axis=2, start=0, size=2, step=3)
        v2 = softmax(h, axis="n")
        v3 = reshape(v1, shape=(1, 8))
        v4 = mean(v3, axis="co", keep=True)
        v5 = add(v2, v4)
        return v5
    v0 = scan(x, w, body=cell, states=("h",))
    v1 = result(v0, index=0)
    return v1""",
    "a number of numbers beside a value without axes": """\
def f(x: map[2, 8]) -> map[()]:
    v0 = frobenius_norm(x)
    v1 = scalar(value=1.361)
    v2 = scalar(value=1.251)
    v3 = sub(v1, v2)
    v4 = min(v3, v0, axis="")
    return v4""",
    "numbers out of a bundle": """\
def f(x: map[2, 8]) -> map[()]:
    v0 = frobenius_norm(x)
    v1 = scalar(value=1.361)
    v2 = bundle(v1, v1)
    v3 = result(v2, index=0)
    v4 = result(v2, index=1)
    v5 = sum(v3, v4, v0, axis="")
    return v5""",
    "indices that are constants": """\
def f(x: map[1, 2], *, w: weight[8, 1], i8_1: constant[2, int64]) -> map[1, 2]:
    v0 = gather(w, i8_1)
    v1 = reshape(v0, shape=(1, 2))
    v2 = add(x, v1)
    return v2""",
    "zeros beside indices": """\
def f(i4_0: map[2, 3, int64], *, w: weight[4, 5]) -> map[2, 3, 5]:
    v0 = gather(w, i4_0)
    v1 = zeros(shape=(2, 3, 5))
    v2 = max(v0, v1, axis="")
    return v2""",
    "an unroll of a sum to one number": """\
def f(x: map[6], y: map[2, 3]) -> map[2, 3]:
    v0 = sum(x, axis="co")
    v1 = unroll(v0, ci=2)
    v2 = add(y, v1)
    return v2""",
    "a weight out of a bundle with a map": """\
def f(x: map[1, 7], *, k: constant[3, 7]) -> map[3, 7]:
    v0 = tanh(x)
    v1 = bundle(k, v0)
    v2 = result(v1, index=0)
    v3 = result(v1, index=1)
    v4 = exp(v2)
    v5 = add(v4, v3)
    return v5""",
    "maps by uneven gaps that are not summed": """\
def f(x: map[1, 5, 1, 2], *, w: weight[15, 1, 2, 3]) -> map[1, 15, 1, 2]:
    v0 = cross_correlation(x, w, stride=(2, 1), dilation=((1,), (3, 1)), groups=5, \
padding=(1, 0, 2, 2))
    v1 = max(v0, axis="ci")
    return v1""",
    "maps of runs of groups": """\
def f(x: map[1, 6, 2, 4], *, k: constant[18, 1, 3, 1]) -> map[1, 108]:
    v0 = cross_correlation(x, k, stride=(1, 2), dilation=(1, 1), groups=6, \
padding=(2, 2, 2, 0), group_dilation=((1, 2), (2, 1), (1, 2), (2, 2), (2, 2), \
((3, 1), 2)))
    v1 = reshape(v0, shape=(1, 108))
    return v1""",
    "a tile on what only moves": """\
def f(x: map[1, 5, 3, 5], y: map[1, 5]) -> map[1, 80]:
    v0 = tanh(x)
    v1 = reshape(v0, shape=(1, 75))
    v2 = tile(v1, co=7)
    v3 = concat(v2, y, axis="co")
    return v3""",
}


def share(first: int, count: int) -> dict[int, Graph]:
    return {seed: random_graph(seed) for seed in range(first, first + count)}


@pytest.mark.parametrize("first", range(0, IN_TORCH, 100))
def test_in_torch(first: int) -> None:
    excluded = 0
    for seed in range(first, first + 100):
        _, failure, left_out = check(seed)
        assert failure is None, f"seed {seed}: {failure.reason}\n{failure.text}"
        excluded += left_out is not None
    assert excluded <= MOST_EXCLUDED


def test_compiled_for_this_machine() -> None:
    assert check_compiled(share(0, ON_HOST), "host") == []


@pytest.mark.qemu
def test_compiled_for_arm() -> None:
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    assert check_compiled(share(0, UNDER_QEMU), "arm") == []


def test_as_onnx() -> None:
    """What ONNX has operators for, in another runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    agreed = 0
    for seed, graph in share(0, 150).items():
        inputs = inputs_of(graph)
        weights = {v.name: inputs[v.name] for v in graph.weights}
        try:
            model = graph_to_onnx(graph.without_schedule(), weights)
        except Unsupported:
            continue
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        given = {x.name: inputs[x.name].numpy() for x in session.get_inputs()}
        found = [torch.from_numpy(y) for y in session.run(None, given)]
        assert disagreements(graph, found) <= 1.0, f"seed {seed}\n{graph}"
        agreed += 1
    assert agreed > 50


@pytest.mark.parametrize("what", FOUND)
def test_found_in_torch(what: str) -> None:
    assert check_graph(verify(parse(FOUND[what]))) == ""


def test_found_in_compiled_code() -> None:
    graphs = {i: parse(text) for i, text in enumerate(FOUND.values())}
    assert check_compiled(graphs, "host") == []


def test_two_bodies_of_one_name() -> None:
    """Graphs from two parents: the text needs two names, and parses back."""
    graph = parse(
        """\
def f(x: map[2, 3, 4], *, h: weight[2, 4]) -> map[2, 3, 4]:
    def cell(x: map[2, 4], h: map[2, 4]) -> map[2, 4]:
        v0 = add(x, h)
        return v0
    def other(x: map[2, 4], h: map[2, 4]) -> map[2, 4]:
        v0 = sub(x, h)
        return v0
    v0 = scan(x, h, body=cell, states=("h",))
    v1 = result(v0, index=0)
    v2 = scan(v1, h, body=other, states=("h",))
    v3 = result(v2, index=0)
    return v3"""
    )
    nodes = [
        replace(
            node,
            attributes=tuple(
                (k, replace(v, name="cell") if k == "body" else v)
                for k, v in node.attributes
            ),
        )
        for node in graph.nodes
    ]
    joined = replace(graph, nodes=tuple(nodes)).renumbered()
    assert [body.name for body in joined.bodies] == ["cell", "cell_1"]
    assert parse(joined.text) == joined


def test_graphs_are_drawn_from_the_whole_set() -> None:
    graphs = share(0, 400).values()
    seen = {node.opcode for graph in graphs for node in graph.nodes}
    assert seen.issuperset(DRAWN) and {"tile", "unroll"} <= seen
    assert {graph.result.is_bundle for graph in graphs} == {True, False}
    for graph in graphs:
        check_bounds(graph, Bounds(nodes=20, edges=25))


def test_a_seed_gives_one_graph() -> None:
    assert random_graph(7) == random_graph(7)
    assert len(set(share(0, 50).values())) == 50
