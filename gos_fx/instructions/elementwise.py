"""Numbers, and element-wise arithmetic: Table 1's matrix addition, Hadamard product,
square root."""

from __future__ import annotations

import torch
from torch import Tensor

from gos_fx.instructions.broadcasting import aligned
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.opcode import instruction


@instruction(
    category="structure",
    attributes={"value": Attribute("real", 0.0)},
    shape=lambda *, value: (),
    flops=lambda out, **_: 0,
    table1=False,
)
def scalar(*, value: float) -> float:
    """y = value: a number that is known when the graph is written"""
    return value


@instruction(category="linear algebra")
def add(a: Tensor, b: Tensor, /) -> Tensor:
    """c = a + b"""
    a, b = aligned(a, b)
    return a + b


@instruction(category="linear algebra")
def sub(a: Tensor, b: Tensor, /) -> Tensor:
    """c = a - b"""
    a, b = aligned(a, b)
    return a - b


@instruction(category="linear algebra")
def hadamard(a: Tensor, b: Tensor, /) -> Tensor:
    """c_i = a_i b_i"""
    a, b = aligned(a, b)
    return a * b


@instruction(category="structure", table1=False)
def div(a: Tensor, b: Tensor, /) -> Tensor:
    """c_i = a_i / b_i; non-finite where b_i = 0"""
    a, b = aligned(a, b)
    return a / b


@instruction(category="aggregation")
def sqrt(x: Tensor, /) -> Tensor:
    """y = sqrt(x); not a number where x < 0"""
    return torch.sqrt(x)


@instruction(category="structure", table1=False, rtol=1e-5)
def exp(x: Tensor, /) -> Tensor:
    """y = e^x"""
    return torch.exp(x)
