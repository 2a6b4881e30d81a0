"""Derivatives of feature maps, and probability, for TVM: a function each, same name."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

from tvm import te, tirx
from tvm.te import Tensor

from gos_fx.ir.types import axis_index
from gos_fx.kernels import elementary
from gos_fx.kernels.te_instructions import (
    along,
    const,
    for_dtype,
    instruction,
    pointwise,
    shape_of,
)

# The axes of :func:`gradient` by rank: all but batch and channels, where there are any.
SPATIAL = {2: ("co",), 3: ("t",), 4: ("ho", "wo")}


@instruction
def partial_derivative(x: Tensor, *, axis: str, name: str) -> Tensor:
    shape = shape_of(x)
    at = axis_index(axis, len(shape))
    last = shape[at] - 1
    if last == 0:
        return te.compute(shape, lambda *_: const(0.0, x), name=name)

    def element(*i: Any) -> Any:
        above, below = tirx.min(i[at] + 1, last), tirx.max(i[at] - 1, 0)
        difference = x(*i[:at], above, *i[at + 1 :]) - x(*i[:at], below, *i[at + 1 :])
        inner = tirx.all(i[at] > 0, i[at] < last)
        return difference * tirx.Select(inner, const(0.5, x), const(1.0, x))

    return te.compute(shape, element, name=name)


@instruction
def gradient(x: Tensor, *, name: str) -> tuple[Tensor, ...]:
    """One tensor for each axis of SPATIAL"""
    return tuple(
        partial_derivative(x, axis=axis, name=f"{name}_{axis}")
        for axis in SPATIAL[len(x.shape)]
    )


@instruction
def density(
    x: Tensor, mean: Tensor, scale: Tensor, *, distribution: str, name: str
) -> Tensor:
    power = for_dtype(x, elementary.exp, tirx.exp)
    once = for_dtype(x, elementary.once, lambda v, body: body(v))

    def normal(z: Any, s: Any) -> Any:
        return power(const(-0.5, x) * z * z) / (s * const(sqrt(2 * pi), x))

    def laplace(z: Any, s: Any) -> Any:
        return power(-tirx.abs(z)) / (const(2.0, x) * s)

    def logistic(z: Any, s: Any) -> Any:
        one = const(1.0, x)
        return once(power(-tirx.abs(z)), lambda e: e / (s * (one + e) * (one + e)))

    form = {"normal": normal, "laplace": laplace, "logistic": logistic}[distribution]
    return pointwise(
        name, lambda v, m, s: once((v - m) / s, lambda z: form(z, s)), x, mean, scale
    )


@instruction
def posterior(likelihood: Tensor, prior: Tensor, *, axis: str, name: str) -> Tensor:
    joint = pointwise(f"{name}_joint", lambda a, b: a * b, likelihood, prior)
    at = axis_index(axis, len(joint.shape))
    total = along(joint, at, te.sum, f"{name}_total")
    return te.compute(
        shape_of(joint),
        lambda *i: joint(*i) / total(*i[:at], *i[at + 1 :]),
        name=name,
    )
