"""Numbers, and element-wise arithmetic: Table 1's matrix addition, Hadamard product,
square root."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gos_fx.instructions.broadcasting import aligned
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.opcode import instruction


def _scalar_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    return b.constant(attributes["value"])


@instruction(
    category="structure",
    attributes={"value": Attribute("real", 0.0)},
    shape=lambda *, value: (),
    flops=lambda out, **_: 0,
    table1=False,
    onnx=_scalar_onnx,
)
def scalar(*, value: float) -> float:
    """y = value: a number that is known when the graph is written"""
    return value


@instruction(category="linear algebra", onnx="Add")
def add(a: Tensor, b: Tensor, /) -> Tensor:
    """c = a + b"""
    a, b = aligned(a, b)
    return a + b


@instruction(category="linear algebra", onnx="Sub")
def sub(a: Tensor, b: Tensor, /) -> Tensor:
    """c = a - b"""
    a, b = aligned(a, b)
    return a - b


@instruction(category="linear algebra", onnx="Mul")
def hadamard(a: Tensor, b: Tensor, /) -> Tensor:
    """c_i = a_i b_i"""
    a, b = aligned(a, b)
    return a * b


@instruction(category="structure", table1=False, onnx="Div")
def div(a: Tensor, b: Tensor, /) -> Tensor:
    """c_i = a_i / b_i; non-finite where b_i = 0"""
    a, b = aligned(a, b)
    return a / b


@instruction(category="aggregation", onnx="Sqrt")
def sqrt(x: Tensor, /) -> Tensor:
    """y = sqrt(x); not a number where x < 0"""
    return torch.sqrt(x)


@instruction(category="structure", table1=False, onnx="Exp")
def exp(x: Tensor, /) -> Tensor:
    """y = e^x"""
    return torch.exp(x)


@instruction(
    category="structure",
    flops=lambda out, x: 10 * out.elements,
    table1=False,
    onnx="Erf",
)
def erf(x: Tensor, /) -> Tensor:
    """y = 2 / sqrt(pi) integral of e^(-t^2) from 0 to x"""
    return torch.erf(x)
