"""Loops that a tile may name."""

from __future__ import annotations

import pytest

from gos_fx.ir.graph import Graph
from gos_fx.ir.loops import loops_of
from gos_fx.ir.parser import parse

IMAGE = "n co ho wo"


def test_a_convolution_and_what_is_fused_behind_it(conv: Graph) -> None:
    found = {name: " ".join(loops) for name, loops in loops_of(conv).items()}
    every = f"{IMAGE} ci kh kw"
    assert found == dict.fromkeys(("v0", "v1", "v2", "v3"), every)


@pytest.mark.parametrize(
    ("lines", "result", "loops"),
    [
        ("v0 = relu(x)", "map[2, 3, 3, 3]", IMAGE),
        ("v0 = max_pool(x)", "map[2, 3, 3, 3]", f"{IMAGE} kh kw"),
        ('v0 = sum(x, axis="ho")', "map[2, 3, 3]", "n t co ci"),
        ('v0 = sum(x, axis="ho"); v1 = tanh(v0)', "map[2, 3, 3]", "n t co ci"),
        ("v0 = add(x, x); v1 = sum(v0, x)", "map[2, 3, 3, 3]", IMAGE),
        ("v0 = matmul(x, x); v1 = unroll(v0, ci=2); v2 = relu(v1)",)
        + ("map[2, 3, 3, 3]", f"{IMAGE} ci"),
        ("v0 = matmul(x, x); v1 = softmax(v0)", "map[2, 3, 3, 3]", IMAGE),
        ("v0 = matmul(x, x); v1 = reshape(v0, shape=(2, 27))", "map[2, 27]", "n co"),
        ("v0 = bundle(x, x)", "(map[2, 3, 3, 3], map[2, 3, 3, 3])", ""),
    ],
)
def test_loops_of_the_last_value(lines: str, result: str, loops: str) -> None:
    statements = lines.split("; ")
    head = f"def f(x: map[2, 3, 3, 3]) -> {result}:"
    last = f"return {statements[-1].split(' = ')[0]}"
    graph = parse("\n    ".join([head, *statements, last]))
    assert " ".join(loops_of(graph)[graph.output]) == loops
