"""ATen operators on the elements."""

from __future__ import annotations

from typing import Any

from gos_fx.kernels.importer.builder import Builder, Operand, Value
from gos_fx.kernels.importer.rules import Shape, aten, elementwise, scalar

_INFINITE = float("inf")


def _affine(
    b: Builder, out: Shape, x: Operand, scale: float, shift: float = 0.0
) -> Value | None:
    return elementwise(b, out, "affine", x, scale=float(scale), shift=float(shift))


def _clip(b: Builder, out: Shape, x: Operand, low: Any, high: Any) -> Value | None:
    bounds = {"low": -_INFINITE, "high": _INFINITE}
    for key, bound in (("low", low), ("high", high)):
        if bound is not None:
            number = scalar(bound)
            if number is None:
                return None
            bounds[key] = number
    if bounds == {"low": 0.0, "high": _INFINITE}:
        return elementwise(b, out, "relu", x, slope=0.0)
    return elementwise(b, out, "clip", x, **bounds)


@aten("add.Tensor", "add.Scalar", "add_.Tensor")
def add(b: Builder, out: Shape, x: Any, y: Any, alpha: float = 1) -> Value | None:
    number = scalar(y)
    if number is not None and scalar(x) is None:
        return _affine(b, out, x, 1.0, number * alpha)
    if scalar(x) is not None and alpha == 1:
        return add(b, out, y, x) if number is None else None
    if alpha != 1:
        y = _affine(b, tuple(y.shape), y, alpha)
    return None if y is None else elementwise(b, out, "add", x, y)


@aten("sub.Tensor", "sub.Scalar")
def sub(b: Builder, out: Shape, x: Any, y: Any, alpha: float = 1) -> Value | None:
    number = scalar(y)
    if number is not None:
        return _affine(b, out, x, 1.0, -number * alpha)
    if scalar(x) is not None and alpha == 1:
        return _affine(b, out, y, -1.0, float(x))
    return elementwise(b, out, "sub", x, y) if alpha == 1 else None


@aten("rsub.Tensor", "rsub.Scalar")
def rsub(b: Builder, out: Shape, x: Any, y: Any, alpha: float = 1) -> Value | None:
    return sub(b, out, y, x) if alpha == 1 else None


@aten("mul.Tensor", "mul.Scalar")
def mul(b: Builder, out: Shape, x: Any, y: Any) -> Value | None:
    for one, other in ((x, y), (y, x)):
        number = scalar(other)
        if number is not None and scalar(one) is None:
            return _affine(b, out, one, number)
    return elementwise(b, out, "hadamard", x, y)


@aten("div.Tensor", "div.Scalar")
def div(b: Builder, out: Shape, x: Any, y: Any) -> Value | None:
    number = scalar(y)
    if number is None:
        return elementwise(b, out, "div", x, y)
    return _affine(b, out, x, 1.0 / number) if number else None


@aten("neg.default")
def neg(b: Builder, out: Shape, x: Operand) -> Value | None:
    return _affine(b, out, x, -1.0)


@aten("reciprocal.default")
def reciprocal(b: Builder, out: Shape, x: Operand) -> Value | None:
    return elementwise(b, out, "div", 1.0, x)


@aten("pow.Tensor_Scalar")
def power(b: Builder, out: Shape, x: Operand, exponent: float) -> Value | None:
    if exponent == 2:
        return elementwise(b, out, "hadamard", x, x)
    return elementwise(b, out, "sqrt", x) if exponent == 0.5 else None


def _unary(name: str, opcode: str, **attributes: Any) -> None:
    @aten(f"{name}.default")
    def rule(b: Builder, out: Shape, x: Operand) -> Value | None:
        return elementwise(b, out, opcode, x, **attributes)


_unary("abs", "absolute")
_unary("erf", "erf")
_unary("exp", "exp")
_unary("relu", "relu", slope=0.0)
_unary("relu6", "clip", low=0.0, high=6.0)
_unary("rsqrt", "rsqrt")
_unary("sigmoid", "sigmoid")
_unary("silu", "silu")
_unary("sqrt", "sqrt")
_unary("tanh", "tanh")


def _pairwise(name: str, opcode: str) -> None:
    @aten(f"{name}.default")
    def rule(b: Builder, out: Shape, x: Operand, y: Operand) -> Value | None:
        return elementwise(b, out, opcode, x, y, axis="")


_pairwise("maximum", "max")
_pairwise("minimum", "min")


@aten("hardtanh.default")
def hardtanh(
    b: Builder, out: Shape, x: Operand, low: float = -1.0, high: float = 1.0
) -> Value | None:
    return _clip(b, out, x, low, high)


@aten("clamp.default")
def clamp(
    b: Builder, out: Shape, x: Operand, min: Any = None, max: Any = None
) -> Value | None:
    return _clip(b, out, x, min, max)


@aten("clamp_min.default")
def clamp_min(b: Builder, out: Shape, x: Operand, min: Any) -> Value | None:
    return _clip(b, out, x, min, None)


@aten("clamp_max.default")
def clamp_max(b: Builder, out: Shape, x: Operand, max: Any) -> Value | None:
    return _clip(b, out, x, None, max)


@aten("leaky_relu.default")
def leaky_relu(
    b: Builder, out: Shape, x: Operand, negative_slope: float = 0.01
) -> Value | None:
    if not 0.0 <= negative_slope < 1.0:
        return None
    return elementwise(b, out, "relu", x, slope=float(negative_slope))


@aten("hardsigmoid.default")
def hardsigmoid(b: Builder, out: Shape, x: Operand) -> Value | None:
    """min(max(x / 6 + 1 / 2, 0), 1)"""
    line = _affine(b, out, x, 1.0 / 6.0, 0.5)
    return None if line is None else _clip(b, out, line, 0.0, 1.0)


@aten("hardswish.default")
def hardswish(b: Builder, out: Shape, x: Operand) -> Value | None:
    gate = hardsigmoid(b, out, x)
    return None if gate is None else elementwise(b, out, "hadamard", x, gate)


@aten("gelu.default")
def gelu(b: Builder, out: Shape, x: Operand, approximate: str = "none") -> Value | None:
    return elementwise(b, out, "gelu", x, tanh=approximate == "tanh")


@aten("clone.default", "alias.default", "detach.default", "contiguous.default")
def identity(b: Builder, out: Shape, x: Operand, memory_format: Any = None) -> Operand:
    return x


@aten("dropout.default")
def dropout(b: Builder, out: Shape, x: Operand, p: float, train: bool) -> Any:
    return None if train and p else x


@aten("_to_copy.default", "to.dtype")
def to_copy(b: Builder, out: Shape, x: Operand, *args: Any, **to: Any) -> Any:
    """float32 is all there is."""
    return x
