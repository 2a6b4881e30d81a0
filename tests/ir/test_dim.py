"""Size expressions: printing and parsing, evaluation, one form for one value."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gos_fx.errors import ParseError, VerifyError
from gos_fx.ir.dim import (
    Dim,
    ceildiv,
    combine,
    gcd,
    minimum,
    parse_dim,
    product,
    substitute,
    symbol,
    symbols,
)

NAMES = ("N", "C_in", "C_out", "H", "K_h")
OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "ceildiv": lambda a, b: math.ceil(a / b),
    "min": min,
    "max": max,
    "gcd": math.gcd,
}
C_IN, C_OUT = symbol("C_in"), symbol("C_out")

# An expression as a tree of ("op", left, right), names and integers.
trees = st.recursive(
    st.one_of(st.integers(-20, 20), st.sampled_from(NAMES)),
    lambda inner: st.tuples(st.sampled_from(sorted(OPERATIONS)), inner, inner),
    max_leaves=12,
)
sizes = st.fixed_dictionaries({name: st.integers(1, 64) for name in NAMES})


def build(tree: Any) -> Dim:
    if isinstance(tree, tuple):
        op, a, b = tree
        return combine(op, build(a), build(b))
    return symbol(tree) if isinstance(tree, str) else tree


def python_value(tree: Any, values: dict[str, int]) -> int:
    """Of a tree all of whose parts are sizes, that is, at least one."""
    if isinstance(tree, tuple):
        op, a, b = tree
        result = OPERATIONS[op](python_value(a, values), python_value(b, values))
    else:
        result = values[tree] if isinstance(tree, str) else tree
    assume(result >= 1)
    return result


@settings(max_examples=200, deadline=None)
@given(trees)
def test_parse_is_the_inverse_of_str(tree: Any) -> None:
    try:
        dim = build(tree)
    except VerifyError:  # a division by zero
        assume(False)
    assert parse_dim(str(dim)) == dim


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_substitution_gives_what_python_gives(data: st.DataObject) -> None:
    positive = st.recursive(
        st.one_of(st.integers(1, 20), st.sampled_from(NAMES)),
        lambda inner: st.tuples(st.sampled_from(sorted(OPERATIONS)), inner, inner),
        max_leaves=6,
    )
    tree, values = data.draw(positive), data.draw(sizes)
    expected = python_value(tree, values)
    assert substitute(build(tree), values) == expected


counts = st.recursive(
    st.one_of(st.integers(1, 20), st.sampled_from(NAMES)),
    lambda inner: st.tuples(st.sampled_from(("+", "*", "ceildiv")), inner, inner),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(counts, st.sampled_from(("+", "*", "min", "max", "gcd")), counts, counts)
def test_order_and_brackets_do_not_matter(a: Any, op: str, b: Any, c: Any) -> None:
    x, y, z = build(a), build(b), build(c)
    assert combine(op, x, y) == combine(op, y, x)
    left = combine(op, combine(op, x, y), z)
    assert left == combine(op, x, combine(op, y, z))


def test_constants_fold_to_integers() -> None:
    assert ceildiv(7, 2) == 4 and combine("//", 7, 2) == 3 and gcd(12, 18) == 6
    assert product([2, 3, 4]) == 24 and product([]) == 1
    assert combine("*", C_IN, 0) == 0 and C_IN - C_IN == 0 and C_IN // C_IN == 1
    assert (C_IN + 1) - 0 == 1 + C_IN and 1 * C_IN is C_IN


def test_canonical_text() -> None:
    assert str(ceildiv(4 * minimum(C_OUT, C_IN), 8)) == (
        "ceildiv(4 * min(C_in, C_out), 8)"
    )
    assert str(C_OUT * 2 * C_IN) == "2 * C_in * C_out"
    assert str(C_IN - (C_OUT - 1)) == "C_in - (C_out - 1)"
    assert str(C_IN * (C_OUT // 2)) == str((C_OUT // 2) * C_IN)


def test_symbols_and_partial_substitution() -> None:
    dim = C_IN * C_OUT + 3
    assert symbols(dim) == {"C_in", "C_out"} and symbols(4) == frozenset()
    assert str(substitute(dim, {"C_in": 2})) == "3 + 2 * C_out"
    assert substitute(dim, {"C_in": 2, "C_out": 5}) == 13


def test_division_by_zero_is_refused() -> None:
    with pytest.raises(VerifyError, match="division by zero"):
        combine("//", 4, 0)
    with pytest.raises(VerifyError, match="division by zero"):
        substitute(C_IN // (C_OUT - 3), {"C_in": 8, "C_out": 3})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.5",
        "True",
        "'C_in'",
        "C_in ** 2",
        "C_in / 2",
        "f(C_in, 2)",
        "min(C_in)",
        "min(C_in, 2, key=3)",
        "a.b",
        "a[0]",
        "(lambda: 1)()",
        "__import__('os')",
        "C_in if C_out else 1",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="not a size expression"):
        parse_dim(text)
