"""Derivatives of feature maps along their axes, and products of derivatives.

The gradient of a loss by the weights, which the paper lists too, is no instruction:
it is what training computes, and an inference has no loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gos_fx.instructions.broadcasting import aligned
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim
from gos_fx.ir.opcode import Operand, instruction
from gos_fx.ir.types import Type, axis_index

# The axes along which a map of each rank is differentiated.
SPATIAL = {2: ("co",), 3: ("t",), 4: ("ho", "wo")}


def _along(x: Tensor, dim: int) -> Tensor:
    if x.shape[dim] == 1:
        return torch.zeros_like(x)
    return torch.gradient(x, dim=dim)[0]


def _along_onnx(b: Any, x: str, dim: int, of: Type) -> Any:
    """Differences of the map with its ends repeated, which are one-sided there."""
    extent, axes = int(of.shape[dim]), b.constant([dim])  # type: ignore[arg-type]
    wide = b.op("Pad", x, b.constant([1, 1]), "", axes, mode="edge")
    after, before = (
        b.op("Slice", wide, b.constant([i]), b.constant([extent + i]), axes)
        for i in (2, 0)
    )
    steps = np.full((extent, *[1] * (of.rank - 1 - dim)), 0.5, of.dtype)
    steps[[0, -1]] = 1.0
    return b.op("Mul", b.op("Sub", after, before), b.constant(steps))


def _gradient_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    (x,), (of,) = operands, types
    axes = SPATIAL[of.rank]
    return tuple(_along_onnx(b, x, axis_index(a, of.rank), of) for a in axes)


def _gradient_shapes(x: Type) -> tuple[tuple[Dim, ...], ...]:
    return (x.shape,) * len(SPATIAL[x.rank])


@instruction(
    category="calculus",
    operands={"x": Operand(ranks=tuple(SPATIAL))},
    shape=_gradient_shapes,
    results=("first", "second"),
    flops=lambda out, x: 2 * out.elements,
    onnx=_gradient_onnx,
)
def gradient(x: Tensor, /) -> tuple[Tensor, ...]:
    """y_i = (x_(i+1) - x_(i-1)) / 2 along ho and along wo; of a sequence along t only,
    of [N, C] along co only

    One-sided differences at the ends; zero along an axis of size one. The gradient of
    a feature map, not of a loss: see the module.
    """
    rank = x.dim()
    return tuple(_along(x, axis_index(axis, rank)) for axis in SPATIAL[rank])


def _partial_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    dim = axis_index(attributes["axis"], result.rank)
    return _along_onnx(b, operands[0], dim, result)


@instruction(
    category="calculus",
    attributes={"axis": Attribute("axis", "co")},
    shape=lambda x, *, axis: (axis_index(axis, x.rank), x.shape)[1],
    flops=lambda out, x, **_: 2 * out.elements,
    onnx=_partial_onnx,
)
def partial_derivative(x: Tensor, /, *, axis: str) -> Tensor:
    """y_i = (x_(i+1) - x_(i-1)) / 2 along an axis, one-sided at the ends; zero along an
    axis of size one"""
    return _along(x, axis_index(axis, x.dim()))


@instruction(category="calculus", onnx="Mul")
def chain_rule(a: Tensor, b: Tensor, /) -> Tensor:
    """dz/dx = dz/dy dy/dx, element by element"""
    a, b = aligned(a, b)
    return a * b
