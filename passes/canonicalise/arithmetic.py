"""Identities of arithmetic that hold for every number, also those that are not finite.

``x - x``, ``0 x`` and the like stay: they are not zero where x is not finite. Sums are
not taken apart: what one order of additions cancels, another rounds away.
"""

from __future__ import annotations

from gos_fx.passes.canonicalise.rule import Match, rule

# Products of factors within these are far from where float32 ends.
_SMALLEST, _LARGEST = 2.0**-40, 2.0**40
_NEVER_NEGATIVE = ("sigmoid", "exp", "softmax", "sqrt")


@rule("add")
def add_nothing(m: Match) -> str | None:
    """x + 0 -> x, 0 + x -> x"""
    return _without(m, 0.0)


@rule("hadamard", "chain_rule")
def multiply_by_one(m: Match) -> str | None:
    """1 x -> x, x 1 -> x"""
    return _without(m, 1.0)


def _without(m: Match, neutral: float) -> str | None:
    a, b = m.operands
    if m.number(b) == neutral:
        return a
    return b if m.number(a) == neutral else None


@rule("sub")
def subtract_nothing(m: Match) -> str | None:
    """x - 0 -> x"""
    return m.operands[0] if m.number(m.operands[1]) == 0.0 else None


@rule("div")
def divide_by_one(m: Match) -> str | None:
    """x / 1 -> x"""
    return m.operands[0] if m.number(m.operands[1]) == 1.0 else None


@rule("sum")
def sum_without_zeros(m: Match) -> str | None:
    """sum(x, 0, y) -> sum(x, y), sum(x, 0) -> x"""
    kept = [name for name in m.operands if m.number(name) != 0.0]
    return _fewer(m, kept)


@rule("max", "min")
def each_value_once(m: Match) -> str | None:
    """max(x, y, x) -> max(x, y), max(x, x) -> x"""
    return _fewer(m, list(dict.fromkeys(m.operands)))


def _fewer(m: Match, kept: list[str]) -> str | None:
    if m.attributes.get("axis") or not kept or len(kept) == len(m.operands):
        return None
    return kept[0] if len(kept) == 1 else m.again(*kept)


@rule("hadamard")
def one_factor(m: Match) -> str | None:
    """(x a) b -> x (a b) for numbers a, b"""
    x, b = m.operands
    inner = m.source(x, "hadamard")
    outer_factor = _factor(m, b)
    if inner is None or outer_factor is None:
        return None
    inner_factor = _factor(m, inner.operands[1])
    if inner_factor is None:
        return None
    product = m.emit("scalar", value=outer_factor * inner_factor)
    return m.emit("hadamard", inner.operands[0], product)


def _factor(m: Match, name: str) -> float | None:
    if m.source(name, "scalar") is None:
        return None
    number = m.number(name)
    assert number is not None
    return number if _SMALLEST <= abs(number) <= _LARGEST else None


@rule("relu")
def relu_of_relu(m: Match) -> str | None:
    """relu(relu(x, slope=a), slope=b) -> relu(x, slope=a b)"""
    inner = m.source(m.operands[0], "relu")
    if inner is None:
        return None
    slope = inner.attr("slope") * m.attributes["slope"]
    return m.emit("relu", *inner.operands, slope=slope)


@rule("relu")
def relu_of_what_is_not_negative(m: Match) -> str | None:
    """relu(sigmoid(x)) -> sigmoid(x), also of exp, softmax, sqrt"""
    is_kept = m.source(m.operands[0], *_NEVER_NEGATIVE) is not None
    return m.operands[0] if is_kept else None
