"""Opcodes that only the code generator knows, for TVM: one function each, same name.

Networks come to be of them where torch has an operator of its own for something; the
search composes the same of instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx
from tvm.te import Tensor

from gos_fx.kernels import elementary, extremes
from gos_fx.kernels.te_instructions import (
    TE_INSTRUCTIONS,
    along,
    const,
    for_dtype,
    pointwise,
    shape_of,
)

KERNEL_OPCODES: list[str] = []


def _kernel_opcode(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name = function.__name__.rstrip("_")
    if name in TE_INSTRUCTIONS:
        raise ValueError(f"{name} is an instruction")
    TE_INSTRUCTIONS[name] = function
    KERNEL_OPCODES.append(name)
    return function


@_kernel_opcode
def clip(x: Tensor, *, low: float, high: float, name: str) -> Tensor:
    """min(max(x, low), high); an infinite bound is none"""

    def element(value: Any) -> Any:
        if low != float("-inf"):
            value = extremes.maximum(const(low, x), value)
        if high == float("inf"):
            return value
        return extremes.minimum(const(high, x), value)

    return pointwise(name, element, x)


@_kernel_opcode
def affine(x: Tensor, *, scale: float, shift: float, name: str) -> Tensor:
    """scale * x + shift"""

    def element(value: Any) -> Any:
        if scale != 1.0:
            value = value * const(scale, x)
        return value if shift == 0.0 else value + const(shift, x)

    return pointwise(name, element, x)


@_kernel_opcode
def absolute(x: Tensor, *, name: str) -> Tensor:
    """|x|"""
    return pointwise(name, lambda v: extremes.larger(v, -v), x)


@_kernel_opcode
def rsqrt(x: Tensor, *, name: str) -> Tensor:
    """1 / sqrt(x)"""
    return pointwise(name, lambda v: const(1.0, x) / tirx.sqrt(v), x)


@_kernel_opcode
def reciprocal(x: Tensor, *, scale: float, name: str) -> Tensor:
    """scale / x"""
    return pointwise(name, lambda v: const(scale, x) / v, x)


@_kernel_opcode
def silu(x: Tensor, *, name: str) -> Tensor:
    """x / (1 + e^-x)"""
    once = for_dtype(x, elementary.once, lambda v, body: body(v))
    sigmoid = for_dtype(x, elementary.sigmoid, tirx.sigmoid)
    return pointwise(name, lambda v: once(v, lambda v: v * sigmoid(v)), x)


@_kernel_opcode
def gelu(x: Tensor, *, tanh: bool, name: str) -> Tensor:
    """x Phi(x), the normal distribution's function by erf, or nearly so by tanh:
    Phi(x) = (1 + tanh(y)) / 2 = 1 / (1 + e^-2y), y = sqrt(2 / pi) (x + 0.044715 x^3)
    """
    half, one = const(0.5, x), const(1.0, x)
    once = for_dtype(x, elementary.once, lambda v, body: body(v))

    def exact(v: Any) -> Any:
        wide = for_dtype(x, elementary.erf, tirx.erf)
        return v * (half * (one + wide(v * const(0.7071067811865476, x))))

    def near(v: Any) -> Any:
        rise = for_dtype(x, elementary.sigmoid, tirx.sigmoid)
        inner = v * (one + const(0.044715, x) * v * v)
        return v * rise(const(2.0 * 0.7978845608028654, x) * inner)

    return pointwise(name, lambda v: once(v, near if tanh else exact), x)


@_kernel_opcode
def layer_norm(x: Tensor, *affine: Tensor, eps: float, name: str) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over the last axis, times gain, plus shift"""
    shape = shape_of(x)
    last = len(shape) - 1
    share = const(1.0 / shape[-1], x)
    total = along(x, last, te.sum, f"{name}_sum")
    square = te.compute(
        shape,
        lambda *i: _square(x(*i) - total(*i[:-1]) * share),
        name=f"{name}_squares",
    )
    spread = along(square, last, te.sum, f"{name}_spread")

    def element(*i: Any) -> Any:
        centred = x(*i) - total(*i[:-1]) * share
        deviation = tirx.sqrt(spread(*i[:-1]) * share + const(eps, x))
        value = centred / deviation
        if affine:
            value = value * affine[0](i[-1])
        return value + affine[1](i[-1]) if len(affine) > 1 else value

    return te.compute(shape, element, name=name)


def _square(value: Any) -> Any:
    return value * value


@_kernel_opcode
def surround(
    x: Tensor,
    *,
    before: tuple[int, ...],
    after: tuple[int, ...],
    value: float,
    name: str,
) -> Tensor:
    """``value`` around x: so many elements on each side of each axis, fewer than 0 of
    them to cut off"""
    shape = shape_of(x)
    grid = [b + n + a for b, n, a in zip(before, shape, after, strict=True)]

    def element(*i: Any) -> Any:
        at = [index - b for index, b in zip(i, before)]
        conditions = []
        for index, b, a, extent in zip(at, before, after, shape):
            conditions += [index >= 0] if b > 0 else []
            conditions += [index < extent] if a > 0 else []
        inner = x(*at)
        if not conditions:
            return inner
        return tirx.if_then_else(tirx.all(*conditions), inner, const(value, x))

    return te.compute(grid, element, name=name)


@_kernel_opcode
def expand(x: Tensor, *, shape: tuple[int, ...], name: str) -> Tensor:
    """x repeated along its axes of size one"""
    source = shape_of(x)
    return te.compute(
        shape,
        lambda *i: x(*(0 if extent == 1 else j for j, extent in zip(i, source))),
        name=name,
    )


@_kernel_opcode
def move(x: Tensor, *, steps: tuple[Any, ...], name: str) -> Tensor:
    """The nodes ``steps`` one after the other; each has one operand, the last value"""
    for i, step in enumerate(steps):
        label = name if i == len(steps) - 1 else f"{name}_step{i}"
        x = TE_INSTRUCTIONS[step.opcode](x, name=label, **dict(step.attributes))
    return x
