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


IN_A_ROW = [
    ("hadamard(x, c)", "add(v1, d)", "affine", {"scale": 3.0, "shift": -2.0}),
    ("add(x, c)", "hadamard(v1, d)", "affine", {"scale": -2.0, "shift": -6.0}),
    ("relu(x, slope=0.0)", 'min(v1, c, axis="")', "clip", {"low": 0.0, "high": 3.0}),
    ('min(x, c, axis="")', 'max(v1, d, axis="")', "clip", {"low": -2.0, "high": 3.0}),
    ('max(x, c, axis="")', 'min(v1, d, axis="")', "clip", {"low": -2.0, "high": -2.0}),
]


@pytest.mark.parametrize(("first", "second", "opcode", "attributes"), IN_A_ROW)
def test_two_in_a_row_are_one(
    first: str, second: str, opcode: str, attributes: dict[str, float]
) -> None:
    text = f"""\
def f(x: map[2, 3]) -> map[2, 3]:
    c = scalar(value=3.0)
    d = scalar(value=-2.0)
    v1 = {first}
    v2 = {second}
    v3 = sigmoid(v2)
    return v3"""
    kernels = [k for k in partition(parse(text)) if k.anchor.opcode != "scalar"]
    (kernel,) = kernels
    assert [node.opcode for node in kernel.nodes] == [opcode, "sigmoid"]
    assert kernel.anchor.attrs == attributes


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        ("relu(x, slope=0.01)", 'min(v1, c, axis="")', "v2"),
        ("add(x, c)", 'min(v1, c, axis="")', "v2"),
        ("add(x, c)", "hadamard(v1, c)", "add(v1, v2)"),
    ],
)
def test_what_another_reads_or_is_no_line_stays(
    first: str, second: str, result: str
) -> None:
    text = f"""\
def f(x: map[2, 3]) -> map[2, 3]:
    c = scalar(value=3.0)
    v1 = {first}
    v2 = {second}
    v3 = {"relu(v2, slope=0.1)" if result == "v2" else result}
    return v3"""
    (kernel,) = partition(parse(text))
    assert len(kernel.nodes) == 3
