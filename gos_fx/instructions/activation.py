"""Activation functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gos_fx.ir.attribute import Attribute
from gos_fx.ir.opcode import instruction
from gos_fx.ir.types import AXES, axis_index

# 0.01 and 0.03 are the slopes of the paper's Table 3.
_SLOPES = (0.0, 0.01, 0.03, 0.1)


def _relu_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    slope = attributes["slope"]
    return (
        b.op("LeakyRelu", *operands, alpha=slope) if slope else b.op("Relu", *operands)
    )


@instruction(
    category="activation",
    attributes={"slope": Attribute("real", 0.0, choices=_SLOPES, low=0.0, high=1.0)},
    onnx=_relu_onnx,
)
def relu(x: Tensor, /, *, slope: float) -> Tensor:
    """y = max(slope x, x), 0 <= slope <= 1; slope 0 is the plain form"""
    return torch.relu(x) if slope == 0.0 else torch.maximum(slope * x, x)


@instruction(
    category="activation", flops=lambda out, x: 4 * out.elements, onnx="Sigmoid"
)
def sigmoid(x: Tensor, /) -> Tensor:
    """y = 1 / (1 + e^-x)"""
    return torch.sigmoid(x)


@instruction(category="activation", flops=lambda out, x: 5 * out.elements, onnx="Tanh")
def tanh(x: Tensor, /) -> Tensor:
    """y = (e^x - e^-x) / (e^x + e^-x)"""
    return torch.tanh(x)


def _softmax_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    return b.op("Softmax", *operands, axis=axis_index(attributes["axis"], result.rank))


@instruction(
    category="activation",
    attributes={"axis": Attribute("axis", "co", choices=AXES[2][1:])},
    shape=lambda x, *, axis: (axis_index(axis, x.rank), x.shape)[1],
    flops=lambda out, x, **_: 5 * out.elements,
    onnx=_softmax_onnx,
)
def softmax(x: Tensor, /, *, axis: str) -> Tensor:
    """y_i = e^x_i / sum_j e^x_j along an axis"""
    return torch.softmax(x, axis_index(axis, x.dim()))
