"""Numbers become part of the instructions that the code generator sees."""

from __future__ import annotations

import pytest

from gos_fx.ir.fusion import partition
from gos_fx.ir.parser import parse

ROWS = [
    ("add(x, c)", "affine", {"scale": 1.0, "shift": 3.0}),
    ("sub(x, c)", "affine", {"scale": 1.0, "shift": -3.0}),
    ("sub(c, x)", "affine", {"scale": -1.0, "shift": 3.0}),
    ("hadamard(c, x)", "affine", {"scale": 3.0, "shift": 0.0}),
    ("div(x, c)", "affine", {"scale": 1.0 / 3.0, "shift": 0.0}),
    ("div(c, x)", "reciprocal", {"scale": 3.0}),
    ('max(x, c, axis="")', "clip", {"low": 3.0, "high": float("inf")}),
    ('min(c, x, axis="")', "clip", {"low": float("-inf"), "high": 3.0}),
    ('mean(x, c, axis="")', "affine", {"scale": 0.5, "shift": 1.5}),
]


def graph(call: str, value: str = "3.0") -> str:
    return f"""\
def f(x: map[2, 3]) -> map[2, 3]:
    c = scalar(value={value})
    v1 = {call}
    v2 = sigmoid(v1)
    return v2"""


@pytest.mark.parametrize(("call", "opcode", "attributes"), ROWS)
def test_a_number_is_an_attribute(
    call: str, opcode: str, attributes: dict[str, float]
) -> None:
    (kernel,) = partition(parse(graph(call)))
    assert [node.opcode for node in kernel.nodes] == [opcode, "sigmoid"]
    assert kernel.anchor.attrs == attributes and kernel.inputs == ("x",)


def test_maximum_with_zero_is_relu() -> None:
    (kernel,) = partition(parse(graph('max(x, c, axis="")', "0.0")))
    assert kernel.anchor.opcode == "relu" and kernel.anchor.attrs == {"slope": 0.0}


def test_division_by_zero_stays_what_it_is() -> None:
    scalar, kernel = partition(parse(graph("div(x, c)", "0.0")))
    assert scalar.anchor.opcode == "scalar" and kernel.anchor.opcode == "div"


def test_what_reads_no_number_keeps_the_value() -> None:
    text = """\
def f(x: map[2, 3]) -> map[2, 3]:
    c = scalar(value=2.0)
    v1 = min(x, x, c, axis="")
    return v1"""
    opcodes = [kernel.anchor.opcode for kernel in partition(parse(text))]
    assert opcodes == ["scalar", "min"]
