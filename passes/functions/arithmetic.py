"""Arithmetic on maps, weights and numbers."""

from __future__ import annotations

import operator
from typing import Any

import torch

from gos_fx.errors import Unsupported
from gos_fx.passes.functions.operands import Dims, aligned, shape_of, value_of
from gos_fx.passes.lower import Lowering, Value, function


def emit(state: Lowering, opcode: str, *arguments: Any, **attributes: Any) -> str:
    """An element-wise instruction on what torch would broadcast."""
    return state.builder.emit(opcode, *aligned(state, *arguments), **attributes)


def _scaled(state: Lowering, y: Any, alpha: float) -> Any:
    return y if alpha == 1 else _value(state, emit(state, "hadamard", y, alpha))


def _value(state: Lowering, name: str) -> Value:
    return Value(name, shape_of(state, name))


@function(operator.add, torch.add, "add", "__add__", "__radd__")
def add(state: Lowering, out: Dims, x: Any, other: Any, *, alpha: float = 1) -> str:
    return emit(state, "add", x, _scaled(state, other, alpha))


@function(operator.sub, torch.sub, "sub", "__sub__")
def sub(state: Lowering, out: Dims, x: Any, other: Any, *, alpha: float = 1) -> str:
    return emit(state, "sub", x, _scaled(state, other, alpha))


@function(torch.rsub, "__rsub__", "rsub")
def rsub(state: Lowering, out: Dims, x: Any, other: Any) -> str:
    return emit(state, "sub", other, x)


@function(operator.mul, torch.mul, torch.multiply, "mul", "multiply", "__mul__")
def mul(state: Lowering, out: Dims, x: Any, other: Any) -> str:
    return emit(state, "hadamard", x, other)


@function(operator.truediv, torch.div, torch.divide, "div", "divide", "__truediv__")
def div(
    state: Lowering, out: Dims, x: Any, other: Any, *, rounding_mode: None = None
) -> str:
    if rounding_mode is not None:
        raise Unsupported(f"division with rounding_mode={rounding_mode!r}")
    return emit(state, "div", x, other)


@function(operator.neg, torch.neg, "neg")
def neg(state: Lowering, out: Dims, x: Any) -> str:
    return emit(state, "hadamard", x, -1.0)


@function(torch.reciprocal, "reciprocal")
def reciprocal(state: Lowering, out: Dims, x: Any) -> str:
    return emit(state, "div", 1.0, x)


@function(operator.pow, torch.pow, "pow", torch.square, "square")
def power(state: Lowering, out: Dims, x: Any, exponent: Any = 2) -> str:
    """Whole exponents up to 4, one half, and their reciprocals."""
    if not isinstance(exponent, int | float) or abs(exponent) not in (0.5, 1, 2, 3, 4):
        raise Unsupported(f"the power {exponent}")
    value = base = value_of(state, x)
    if abs(exponent) == 0.5:
        value = state.builder.emit("sqrt", base)
    for _ in range(int(abs(exponent)) - 1):
        value = state.builder.emit("hadamard", value, base)
    return emit(state, "div", 1.0, _value(state, value)) if exponent < 0 else value


@function(torch.rsqrt, "rsqrt")
def rsqrt(state: Lowering, out: Dims, x: Any) -> str:
    return power(state, out, x, -0.5)


@function(operator.abs, torch.abs, "abs")
def absolute(state: Lowering, out: Dims, x: Any) -> str:
    value = value_of(state, x)
    return state.builder.emit("max", value, neg(state, out, x))


@function(torch.maximum, "maximum")
def maximum(state: Lowering, out: Dims, x: Any, other: Any) -> str:
    return emit(state, "max", x, other)


@function(torch.minimum, "minimum")
def minimum(state: Lowering, out: Dims, x: Any, other: Any) -> str:
    return emit(state, "min", x, other)


@function(torch.clamp, torch.clip, "clamp", "clip")
def clamp(state: Lowering, out: Dims, x: Any, min: Any = None, max: Any = None) -> str:
    value = value_of(state, x)
    for opcode, bound in (("max", min), ("min", max)):
        if bound is not None:
            value = emit(state, opcode, _value(state, value), bound)
    return value


@function(torch.sqrt, "sqrt")
def sqrt(state: Lowering, out: Dims, x: Any) -> str:
    return emit(state, "sqrt", x)


@function(torch.exp, "exp")
def exp(state: Lowering, out: Dims, x: Any) -> str:
    return emit(state, "exp", x)


@function(torch.erf, "erf")
def erf(state: Lowering, out: Dims, x: Any) -> str:
    return emit(state, "erf", x)
