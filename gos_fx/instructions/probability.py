"""Densities of distributions, and Bayes' rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gos_fx.instructions.broadcasting import aligned
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim
from gos_fx.ir.opcode import broadcast, instruction
from gos_fx.ir.types import Type, axis_index

_ROOT = math.sqrt(2 * math.pi)
# By distribution: the density of z = (x - mean) / scale, without the 1 / scale.
_STANDARD: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda z: torch.exp(-0.5 * z * z) / _ROOT,
    "laplace": lambda z: 0.5 * torch.exp(-torch.abs(z)),
    "logistic": lambda z: torch.sigmoid(z) * torch.sigmoid(-z),
}


def _density_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    x, mean, scale = b.aligned(operands, types)
    z = b.op("Div", b.op("Sub", x, mean), scale)
    match attributes["distribution"]:
        case "normal":
            power = b.op("Mul", b.op("Mul", z, z), b.constant(-0.5))
            y = b.op("Div", b.op("Exp", power), b.constant(_ROOT))
        case "laplace":
            decay = b.op("Exp", b.op("Neg", b.op("Abs", z)))
            y = b.op("Mul", decay, b.constant(0.5))
        case _:
            sides = b.op("Sigmoid", z), b.op("Sigmoid", b.op("Neg", z))
            y = b.op("Mul", *sides)
    return b.op("Div", y, scale)


@instruction(
    category="probability",
    attributes={"distribution": Attribute("name", "normal", choices=tuple(_STANDARD))},
    shape=lambda x, mean, scale, *, distribution: broadcast(x, mean, scale),
    flops=lambda out, *types, **_: 12 * out.elements,
    onnx=_density_onnx,
)
def density(x: Tensor, mean: Tensor, scale: Tensor, /, *, distribution: str) -> Tensor:
    """p(x) = f(z) / s, z = (x - m) / s, s > 0

    f(z) = e^(-z^2 / 2) / sqrt(2 pi) for normal, e^-|z| / 2 for laplace and
    e^-z / (1 + e^-z)^2 for logistic.
    """
    x, mean, scale = aligned(x, mean, scale)
    return _STANDARD[distribution]((x - mean) / scale) / scale


def _posterior_shape(likelihood: Type, prior: Type, *, axis: str) -> tuple[Dim, ...]:
    shape = broadcast(likelihood, prior)
    axis_index(axis, len(shape))
    return shape


def _posterior_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    joint = b.op("Mul", *b.aligned(operands, types))
    axes = b.constant([axis_index(attributes["axis"], result.rank)])
    return b.op("Div", joint, b.op("ReduceSum", joint, axes, keepdims=1))


@instruction(
    category="probability",
    attributes={"axis": Attribute("axis", "co")},
    shape=_posterior_shape,
    flops=lambda out, *types, **_: 3 * out.elements,
    onnx=_posterior_onnx,
)
def posterior(likelihood: Tensor, prior: Tensor, /, *, axis: str) -> Tensor:
    """p_i = l_i q_i / sum_j l_j q_j along an axis: Bayes' rule, q the prior"""
    likelihood, prior = aligned(likelihood, prior)
    joint = likelihood * prior
    return joint / joint.sum(axis_index(axis, joint.dim()), keepdim=True)
