"""The canonical form: what each rule makes of a graph, and what it must leave."""

from __future__ import annotations

import re

import pytest
import torch

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.ir.verifier import verify
from gos_fx.passes.canonicalise import canonicalise
from gos_fx.passes.canonicalise.rule import RULES

SITE = {"N": 2, "C": 3}
WEIGHTS = {"w": "w: weight[C]", "a": "a: weight[6, 6]"}


def graph_of(lines: str) -> Graph:
    """``lines`` are statements that end in v; y is added, so that both maps are
    read."""
    used = [text for name, text in WEIGHTS.items() if re.search(rf"\b{name}\b", lines)]
    head = ", ".join(
        ["x: map[N, C, 4, 6], y: map[N, C, 4, 6]", *(["*", *used] if used else [])]
    )
    statements = [line.strip() for line in lines.split(";")]
    body = "\n    ".join([*statements, "out = add(v, y)", "return out"])
    return verify(parse(f"def f({head}) -> map[N, C, 4, 6]:\n    {body}"))


def body_of(graph: Graph) -> str:
    return "; ".join(line.strip() for line in graph.text.splitlines()[1:-1])


def same(before: Graph, after: Graph) -> None:
    """Equal values at a site."""
    torch.manual_seed(0)
    one, other = before.instantiate(SITE), after.instantiate(SITE)
    values = {
        v.name: torch.randn([int(d) for d in v.type.shape], dtype=torch.float64)  # type: ignore[arg-type]
        for v in one.inputs
    }
    x = evaluate(one, values)
    y = evaluate(other, {v.name: values[v.name] for v in other.inputs})
    torch.testing.assert_close(y, x, rtol=1e-12, atol=1e-12, equal_nan=True)


# Rule -> statements that end in v, what is left of them.
FIRES = {
    "x + 0": ("z = scalar(value=0.0); v = add(x, z)", "v0 = add(x, y)"),
    "0 + x": ("z = scalar(value=0.0); v = add(z, x)", "v0 = add(x, y)"),
    "x + zeros": ("z = zeros(shape=(N, C, 4, 6)); v = add(z, x)", "v0 = add(x, y)"),
    "x - 0": ("z = scalar(value=0.0); v = sub(x, z)", "v0 = add(x, y)"),
    "x 1": ("z = scalar(value=1.0); v = hadamard(z, x)", "v0 = add(x, y)"),
    "chain rule with 1": (
        "z = scalar(value=1.0); v = chain_rule(x, z)",
        "v0 = add(x, y)",
    ),
    "x / 1": ("z = scalar(value=1.0); v = div(x, z)", "v0 = add(x, y)"),
    "a sum with 0": ("z = scalar(value=0.0); v = sum(x, z)", "v0 = add(x, y)"),
    "a sum of three with 0": (
        "z = scalar(value=0.0); v = sum(x, z, x)",
        'v0 = sum(x, x, axis=""); v1 = add(v0, y)',
    ),
    "max(x, x)": ("v = max(x, x)", "v0 = add(x, y)"),
    "min(x, y, x)": (
        "v = min(x, y, x)",
        'v0 = min(x, y, axis=""); v1 = add(v0, y)',
    ),
    "numbers": (
        "p = scalar(value=2.0); q = scalar(value=3.0); r = add(p, q); s = sqrt(r); "
        "v = hadamard(s, x)",
        "v0 = scalar(value=2.23606797749979); v1 = hadamard(x, v0); v2 = add(v1, y)",
    ),
    "a factor of a factor": (
        "p = scalar(value=2.0); q = scalar(value=0.25); r = hadamard(x, p); "
        "v = hadamard(q, r)",
        "v0 = scalar(value=0.5); v1 = hadamard(x, v0); v2 = add(v1, y)",
    ),
    "factors that cancel": (
        "p = scalar(value=2.0); q = scalar(value=0.5); r = hadamard(x, p); "
        "v = hadamard(q, r)",
        "v0 = add(x, y)",
    ),
    "x identity": ("i = identity(size=6); v = matmul(x, i)", "v0 = add(x, y)"),
    "identity x": ("i = identity(size=4); v = matmul(i, x)", "v0 = add(x, y)"),
    "the inverse of identity": (
        "i = identity(size=6); j = inverse(i); k = transpose(j, axes=(1, 0)); "
        "v = matmul(x, k)",
        "v0 = add(x, y)",
    ),
    "tanh of zeros": (
        "z = zeros(shape=(N, C, 4, 6)); t = tanh(z); v = max(x, t)",
        'v0 = zeros(shape=(N, C, 4, 6)); v1 = max(x, v0, axis=""); v2 = add(v1, y)',
    ),
    "two transposes": (
        "t = transpose(x, axes=(0, 1, 3, 2)); v = transpose(t, axes=(0, 1, 3, 2))",
        "v0 = add(x, y)",
    ),
    "transposes that make another": (
        "t = transpose(x, axes=(1, 2, 3, 0)); u = transpose(t, axes=(3, 1, 0, 2)); "
        "s = tanh(u); v = transpose(s, axes=(0, 2, 1, 3))",
        "v0 = transpose(x, axes=(0, 2, 1, 3)); v1 = tanh(v0); "
        "v2 = transpose(v1, axes=(0, 2, 1, 3)); v3 = add(v2, y)",
    ),
    "two reshapes": (
        "t = reshape(x, shape=(N, C * 24)); v = reshape(t, shape=(N, C, 4, 6))",
        "v0 = add(x, y)",
    ),
    "a reshape to the same shape": (
        "v = reshape(x, shape=(N, C, 4, 6))",
        "v0 = add(x, y)",
    ),
    "a resize to the same size": (
        'v = resize(x, size=(4, 6), mode="bilinear")',
        "v0 = add(x, y)",
    ),
    "a pad by nothing": (
        'v = pad(x, amounts=(0, 0, 0, 0, 0, 0, 0, 0), mode="reflect")',
        "v0 = add(x, y)",
    ),
    "two flips": ('t = flip(x, axis="ho"); v = flip(t, axis="ho")', "v0 = add(x, y)"),
    "a slice of all": ("v = slice(x, axis=3, start=0, size=6)", "v0 = add(x, y)"),
    "a slice of a slice": (
        "s = slice(x, axis=3, start=1, size=2, step=2); "
        "t = slice(s, axis=3, start=1, size=1); v = resize(t, size=(4, 6))",
        "v0 = slice(x, axis=3, start=3, size=1, step=2); "
        "v1 = resize(v0, size=(4, 6)); v2 = add(v1, y)",
    ),
    "slices that rejoin": (
        "p = slice(x, axis=3, start=0, size=1); q = slice(x, axis=3, start=1, size=3); "
        'r = slice(x, axis=3, start=4, size=2); v = concat(p, q, r, axis="wo")',
        "v0 = add(x, y)",
    ),
    "a window of one": (
        "v = max_pool(x, kernel=(1, 1), stride=(1, 1))",
        "v0 = add(x, y)",
    ),
    "two relus": (
        "t = relu(x); v = relu(t)",
        "v0 = relu(x, slope=0.0); v1 = add(v0, y)",
    ),
    "leaky relus": (
        "t = relu(x, slope=0.5); v = relu(t, slope=0.5)",
        "v0 = relu(x, slope=0.25); v1 = add(v0, y)",
    ),
    "relu of a sigmoid": (
        "t = sigmoid(x); v = relu(t)",
        "v0 = sigmoid(x); v1 = add(v0, y)",
    ),
    "a result of a bundle": (
        "t = tanh(x); b = bundle(t, x); p = result(b, index=0); "
        "q = result(b, index=1); v = sub(p, q)",
        "v0 = tanh(x); v1 = sub(v0, x); v2 = add(v1, y)",
    ),
    "what was computed before": (
        "p = add(x, w); q = add(w, x); v = hadamard(p, q)",
        "v0 = add(x, w); v1 = hadamard(v0, v0); v2 = add(v1, y)",
    ),
}


@pytest.mark.parametrize("rule", FIRES)
def test_a_rule_fires(rule: str) -> None:
    lines, left = FIRES[rule]
    before = graph_of(lines)
    after = verify(canonicalise(before))
    assert body_of(after) == left
    assert canonicalise(after) == after
    assert after.result == before.result
    same(before, after)


def test_a_cast_to_the_same_dtype() -> None:
    assert body_of(canonicalise(graph_of('v = cast(x, dtype="float32")'))) == (
        "v0 = add(x, y)"
    )


# What looks alike and has another value, type or gradient.
STAYS = {
    "x 0 where x may be infinite": "z = scalar(value=0.0); v = hadamard(x, z)",
    "x - x where x may be infinite": "v = sub(x, x)",
    "x / x": "v = div(x, x)",
    "0 - x": "z = scalar(value=0.0); v = sub(z, x)",
    "1 / x": "z = scalar(value=1.0); v = div(z, x)",
    "numbers that cancel": (
        "p = scalar(value=1e30); q = add(x, p); r = scalar(value=-1e30); v = add(q, r)"
    ),
    "factors that end beyond single precision": (
        "p = scalar(value=1e-30); q = hadamard(x, p); r = scalar(value=1e30); "
        "v = hadamard(q, r)"
    ),
    "a number that is not finite": (
        "p = scalar(value=1000.0); q = exp(p); v = hadamard(x, q)"
    ),
    "the inverse of an inverse": "p = inverse(a); q = inverse(p); v = matmul(x, q)",
    "another identity of numbers alone": (
        "i = identity(size=6); j = tanh(i); v = matmul(x, j)"
    ),
    "a flip of another flip": 't = flip(x, axis="ho"); v = flip(t, axis="wo")',
    "a transpose": "t = transpose(x, axes=(0, 1, 3, 2)); u = tanh(t); "
    "v = transpose(u, axes=(0, 1, 3, 2))",
    "slices in another order": (
        "p = slice(x, axis=3, start=0, size=3); q = slice(x, axis=3, start=3, size=3); "
        'v = concat(q, p, axis="wo")'
    ),
    "slices along another axis": (
        "p = slice(x, axis=2, start=0, size=2); q = slice(x, axis=2, start=2, size=2); "
        'r = concat(p, q, axis="wo"); v = resize(r, size=(4, 6))'
    ),
    "slices with a gap": (
        "p = slice(x, axis=3, start=0, size=3); q = slice(x, axis=3, start=4, size=2); "
        'r = concat(p, q, axis="wo"); v = resize(r, size=(4, 6))'
    ),
    "a relu of a tanh": "t = tanh(x); v = relu(t)",
    "a sigmoid of a sigmoid": "t = sigmoid(x); v = sigmoid(t)",
    "a mean of a value with itself": "v = mean(x, x)",
    "a sub in the other order": "p = sub(x, y); q = sub(y, x); v = max(p, q)",
    "an average without stride": "v = avg_pool(x, kernel=(2, 2), stride=(1, 1))",
    "a pool that strides": (
        "t = max_pool(x, kernel=(1, 1), stride=(2, 2)); v = resize(t, size=(4, 6))"
    ),
    "a cast to fewer digits": (
        't = cast(x, dtype="float16"); v = cast(t, dtype="float32")'
    ),
}


@pytest.mark.parametrize("what", STAYS)
def test_what_must_stay(what: str) -> None:
    before = graph_of(STAYS[what])
    after = verify(canonicalise(before))
    assert len(after.nodes) == len(before.nodes)
    same(before, after)


def test_dead_nodes_and_weights_go_and_maps_stay() -> None:
    graph = parse(
        "def f(x: map[N, C], y: map[N, C], *, w: weight[C]) -> map[N, C]:\n"
        "    v0 = tanh(x)\n    v1 = add(x, w)\n    v2 = hadamard(x, y)\n    return v2"
    )
    assert canonicalise(graph).text == (
        "def f(x: map[N, C], y: map[N, C]) -> map[N, C]:\n"
        "    v0 = hadamard(x, y)\n    return v0"
    )


def test_new_weights_of_equal_projections_stay_two() -> None:
    """They are trained apart."""
    graph = parse(
        "def f(x: map[N, C], *, w1: weight[C] = ones(size=C), "
        "w2: weight[C] = ones(size=C)) -> map[N, C]:\n"
        "    v0 = add(x, w1)\n    v1 = hadamard(v0, w2)\n    return v1"
    )
    assert canonicalise(graph) == graph


def test_the_order_of_writing_does_not_matter() -> None:
    one = graph_of("p = tanh(x); q = sigmoid(w); r = add(p, q); v = max(r, y, x)")
    other = graph_of("s = sigmoid(w); t = tanh(x); r = add(s, t); v = max(x, r, y)")
    assert one != other
    assert canonicalise(one) == canonicalise(other)
    assert canonicalise(one).digest == canonicalise(other).digest


def test_a_convolution_keeps_its_chain() -> None:
    """The interpreter and the code generator look for sum and bias in this order."""
    graph = parse(
        "def f(x: map[N, C_in, H, W], *, w: weight[C_out, C_in, K_h, K_w], "
        "b: weight[C_out]) -> map[N, C_out, H_out, W_out]:\n"
        "    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups=1)"
        '\n    v1 = sum(v0, axis="ci")\n    v2 = add(b, v1)\n    return v2'
    )
    assert canonicalise(graph).nodes[-1].operands == ("v1", "b")
    assert canonicalise(graph).nodes[:2] == graph.nodes[:2]


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        # Read behind its schedule nodes, tile first, whoever read it where.
        (
            "t = tanh(x); p = unroll(t, wo=2); q = tile(p, wo=4, co=2); v = add(t, q)",
            "v0 = tanh(x); v1 = tile(v0, co=2, wo=4); v2 = unroll(v1, wo=2); "
            "v3 = add(v2, v2); v4 = add(v3, y)",
        ),
        # Equal values under different tiles stay two: a value has one tile.
        (
            "p = tanh(x); q = tile(p, co=2); r = tanh(x); s = tile(r, co=4); "
            "v = hadamard(q, s)",
            "v0 = tanh(x); v1 = tile(v0, co=2); v2 = tanh(x); v3 = tile(v2, co=4); "
            "v4 = hadamard(v1, v3); v5 = add(v4, y)",
        ),
        # One with a tile and one without, or with an unroll, are one.
        (
            "p = tanh(x); q = tile(p, co=2); r = tanh(x); s = unroll(r, co=4); "
            "v = hadamard(q, s)",
            "v0 = tanh(x); v1 = tile(v0, co=2); v2 = unroll(v1, co=4); "
            "v3 = hadamard(v2, v2); v4 = add(v3, y)",
        ),
        # The tile of what goes is that of what stays; nobody tiles an input.
        (
            "z = scalar(value=0.0); s = tanh(x); t = add(s, z); v = tile(t, co=2)",
            "v0 = tanh(x); v1 = tile(v0, co=2); v2 = add(v1, y)",
        ),
        ("z = scalar(value=0.0); t = add(x, z); v = tile(t, co=2)", "v0 = add(x, y)"),
        # A loop that only what goes has.
        (
            "i = identity(size=6); t = tanh(x); m = matmul(t, i); "
            "v = unroll(m, ci=2, wo=3)",
            "v0 = tanh(x); v1 = unroll(v0, wo=3); v2 = add(v1, y)",
        ),
    ],
)
def test_schedule_nodes(lines: str, left: str) -> None:
    before = graph_of(lines)
    after = verify(canonicalise(before))
    assert body_of(after) == left
    assert canonicalise(after) == after
    same(before, after)


CELL = """\
def f(x: map[N, T, C], *, h: constant[N, C], w: weight[C]) -> map[N, T, C]:
    def cell(x: map[N, C], h: map[N, C], c: map[N, C], *, w: weight[C]) -> (map[N, C], map[N, C]):
        z = scalar(value=0.0)
        a = add(x, z)
        b = add(w, h)
        d = tanh(a)
        e = tanh(x)
        g = add(d, b)
        i = hadamard(e, c)
        o = bundle(g, i)
        return o
    v0 = scan(x, h, h, w, body=cell, states=("h", "c"))
    v1 = result(v0, index=INDEX)
    return v1"""  # noqa: E501


def test_a_state_that_nobody_reads_goes() -> None:
    graph = verify(parse(CELL.replace("INDEX", "0")))
    assert canonicalise(graph).text == (
        """\
def f(x: map[N, T, C], *, h: constant[N, C], w: weight[C]) -> map[N, T, C]:
    def cell(x: map[N, C], h: map[N, C], *, w: weight[C]) -> map[N, C]:
        v0 = add(h, w)
        v1 = tanh(x)
        v2 = add(v0, v1)
        return v2
    v0 = scan(x, h, w, body=cell, states=("h",))
    v1 = result(v0, index=0)
    return v1"""
    )
    graph = verify(
        parse(CELL.replace("INDEX", "1").replace("hadamard(e, c)", "sum(e, c, b)"))
    )
    found = verify(canonicalise(graph))
    assert found.by_name["v0"].attr("states") == ("h", "c")  # c needs h


def test_states_that_are_read_stay() -> None:
    text = CELL.replace("INDEX", "0").replace(
        "return v1", "v2 = result(v0, index=1)\n    v3 = add(v1, v2)\n    return v3"
    )
    found = verify(canonicalise(parse(text)))
    assert found.by_name["v0"].attr("states") == ("h", "c")
    (body,) = found.bodies
    assert body_of(body) == (
        "v0 = add(h, w); v1 = tanh(x); v2 = add(v0, v1); v3 = hadamard(v1, c); "
        "v4 = bundle(v2, v3)"
    )


def test_a_feature_map_is_never_lost() -> None:
    """No rule may make an operator independent of what it is given."""
    text = CELL.replace("INDEX", "0").replace(
        "x: map[N, T, C]", "x: map[N, T, C], c: map[N, C]"
    )
    text = text.replace("scan(x, h, h, w", "scan(x, h, c, w")
    graph = verify(parse(text))
    found = verify(canonicalise(graph))
    assert [v.name for v in found.maps] == ["x", "c"]
    assert found.by_name["v0"].attr("states") == ("h", "c")


def test_every_rule_says_what_it_does() -> None:
    rules = {function for found in RULES.values() for function in found}
    assert len(rules) >= 24
    assert all("->" in (function.__doc__ or "") for function in rules)
