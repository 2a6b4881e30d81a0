"""Symbolic integer expressions: the sizes of a template.

A dimension is an ``int`` or an :class:`Expr` over the symbols of an operator's site
(``N``, ``C_in``, ``C_out``, ``H``, ``W``, ``H_out``, ``W_out``, ``K_h``, ``K_w``, ...).
Constants fold on construction, so an expression without symbols is a plain ``int``.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

from gos_fx.errors import ParseError, VerifyError


def _ceildiv(a: int, b: int) -> int:
    return -(-a // b)


_FUNCTIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "ceildiv": _ceildiv,
    "min": min,
    "max": max,
    "gcd": math.gcd,
}
_INFIX = {"+": 1, "-": 1, "*": 2, "//": 2}
_IDEMPOTENT = {"min", "max", "gcd"}
_COMMUTATIVE = {"+", "*"} | _IDEMPOTENT


@dataclass(frozen=True)
class Expr:
    """A symbol (``op == "symbol"``) or a function of two dimensions."""

    op: str
    args: tuple[Dim | str, ...]

    def __add__(self, other: Dim) -> Dim:
        return combine("+", self, other)

    def __radd__(self, other: Dim) -> Dim:
        return combine("+", other, self)

    def __sub__(self, other: Dim) -> Dim:
        return combine("-", self, other)

    def __rsub__(self, other: Dim) -> Dim:
        return combine("-", other, self)

    def __mul__(self, other: Dim) -> Dim:
        return combine("*", self, other)

    def __rmul__(self, other: Dim) -> Dim:
        return combine("*", other, self)

    def __floordiv__(self, other: Dim) -> Dim:
        return combine("//", self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return combine("//", other, self)

    def __str__(self) -> str:
        return _format(self, 0)


Dim = int | Expr


def symbol(name: str) -> Expr:
    """The size that a site calls ``name``."""
    return Expr("symbol", (name,))


def combine(op: str, a: Dim, b: Dim) -> Dim:
    """``a op b``, simplified where that needs no knowledge of the symbols (all > 0)."""
    if isinstance(a, int) and isinstance(b, int):
        if op in ("//", "ceildiv") and b == 0:
            raise VerifyError("division by zero in a size", where=f"{a} {op} {b}")
        return _FUNCTIONS[op](a, b)
    if op in _COMMUTATIVE:  # and associative: one order for one value
        leaves = sorted(_leaves(op, a) + _leaves(op, b), key=_order)
        if op in _IDEMPOTENT:
            leaves = list(dict.fromkeys(leaves))
        return reduce(lambda x, y: _pair(op, x, y), leaves)
    return _pair(op, a, b)


def _leaves(op: str, dim: Dim) -> list[Dim]:
    if isinstance(dim, Expr) and dim.op == op:
        a, b = dim.args
        return _leaves(op, a) + _leaves(op, b)  # type: ignore[arg-type]
    return [dim]


def _pair(op: str, a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return _FUNCTIONS[op](a, b)
    if op == "*" and 0 in (a, b):
        return 0
    if (op == "*" and a == 1) or (op == "+" and a == 0):
        return b
    if (op in ("//", "ceildiv") and b == 1) or (op == "-" and b == 0):
        return a
    if a == b:
        if op in ("min", "max", "gcd"):
            return a
        if op in ("//", "ceildiv"):
            return 1
        if op == "-":
            return 0
    if op in ("min", "gcd") and a == 1:  # sizes are at least one
        return 1
    if op == "max" and a == 1:
        return b
    return Expr(op, (a, b))


def ceildiv(a: Dim, b: Dim) -> Dim:
    """Smallest integer not below ``a / b``."""
    return combine("ceildiv", a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    return combine("min", a, b)


def maximum(a: Dim, b: Dim) -> Dim:
    return combine("max", a, b)


def gcd(a: Dim, b: Dim) -> Dim:
    return combine("gcd", a, b)


def product(dims: tuple[Dim, ...] | list[Dim]) -> Dim:
    """Element count of a shape."""
    result: Dim = 1
    for dim in dims:
        result = combine("*", result, dim)
    return result


def symbols(dim: Dim) -> frozenset[str]:
    """Names of the symbols in ``dim``."""
    if isinstance(dim, int):
        return frozenset()
    if dim.op == "symbol":
        return frozenset({str(dim.args[0])})
    found: frozenset[str] = frozenset()
    for arg in dim.args:
        found |= symbols(arg)  # type: ignore[arg-type]
    return found


def substitute(dim: Dim, bindings: Mapping[str, Dim]) -> Dim:
    """``dim`` with the bound symbols replaced; unbound ones stay.

    Raises:
        VerifyError: the bindings lead to a division by zero.
    """
    if isinstance(dim, int):
        return dim
    if dim.op == "symbol":
        return bindings.get(str(dim.args[0]), dim)
    a, b = (substitute(arg, bindings) for arg in dim.args)  # type: ignore[arg-type]
    return combine(dim.op, a, b)


def parse_dim(text: str) -> Dim:
    """The inverse of ``str``.

    Raises:
        ParseError: not an expression of integers, symbols and the known functions.
    """
    try:
        return dim_of(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        raise ParseError("not a size expression", where=repr(text)) from error


_AST_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
}


def dim_of(node: ast.expr) -> Dim:
    """A dimension from its Python syntax tree; nothing is evaluated as code."""
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return -value
        case ast.Name(id=name):
            return symbol(name)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _AST_OPERATORS:
            return combine(_AST_OPERATORS[type(op)], dim_of(left), dim_of(right))
        case ast.Call(func=ast.Name(id=name), args=[a, b], keywords=[]) if (
            name in _FUNCTIONS
        ):
            return combine(name, dim_of(a), dim_of(b))
    raise ParseError("not a size expression", where=ast.unparse(node))


def _order(dim: Dim) -> tuple[int, str]:
    return (0, str(dim)) if isinstance(dim, int) else (1, str(dim))


def _format(dim: Dim | str, outer: int) -> str:
    if not isinstance(dim, Expr):
        return str(dim)
    if dim.op == "symbol":
        return str(dim.args[0])
    a, b = dim.args
    if dim.op not in _INFIX:
        return f"{dim.op}({_format(a, 0)}, {_format(b, 0)})"
    level = _INFIX[dim.op]
    # The right side binds tighter: a - (b - c) and a * (b // c) keep their brackets.
    text = f"{_format(a, level)} {dim.op} {_format(b, level + 1)}"
    return f"({text})" if level < outer else text
