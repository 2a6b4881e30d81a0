"""Products of matrices and vectors on the last axes, batched over the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, product
from gos_fx.ir.opcode import Operand, instruction
from gos_fx.ir.types import Type

MATRICES = (2, 3, 4, 5)
_MATRIX = Operand(("map", "weight", "constant"), MATRICES)
_VECTOR = Operand(("map", "weight", "constant"), (1, 2, 3, 4))


def _batch(a: Type, b: Type, own_a: int, own_b: int) -> tuple[Dim, ...]:
    """The axes in front of the last ``own`` ones, of one operand or equal in both."""
    batch_a, batch_b = a.shape[: a.rank - own_a], b.shape[: b.rank - own_b]
    if batch_a and batch_b and batch_a != batch_b:
        raise VerifyError(f"the batches of {a} and {b} differ")
    return batch_a or batch_b


def _matmul_shape(a: Type, b: Type) -> tuple[Dim, ...]:
    if a.shape[-1] != b.shape[-2]:
        raise VerifyError(f"{a} and {b} cannot be multiplied")
    return (*_batch(a, b, 2, 2), a.shape[-2], b.shape[-1])


@instruction(
    category="linear algebra",
    operands={"a": _MATRIX, "b": _MATRIX},
    shape=_matmul_shape,
    flops=lambda out, a, b: product((2, a.shape[-1], out.elements)),
    onnx="MatMul",
)
def matmul(a: Tensor, b: Tensor, /) -> Tensor:
    """c_ij = sum_k a_ik b_kj"""
    return torch.matmul(a, b)


def _matvec_shape(a: Type, x: Type) -> tuple[Dim, ...]:
    if a.shape[-1] != x.shape[-1]:
        raise VerifyError(f"{a} and {x} cannot be multiplied")
    return (*_batch(a, x, 2, 1), a.shape[-2])


def _matvec_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    a, x = operands
    column = b.op("Unsqueeze", x, b.constant([-1]))
    return b.op("Squeeze", b.op("MatMul", a, column), b.constant([-1]))


@instruction(
    category="linear algebra",
    operands={"a": _MATRIX, "x": _VECTOR},
    shape=_matvec_shape,
    flops=lambda out, a, x: product((2, a.shape[-1], out.elements)),
    onnx=_matvec_onnx,
)
def matvec(a: Tensor, x: Tensor, /) -> Tensor:
    """y_i = sum_k a_ik x_k"""
    return torch.matmul(a, x.unsqueeze(-1)).squeeze(-1)


def _dot_shape(a: Type, b: Type) -> tuple[Dim, ...]:
    if a.shape[-1] != b.shape[-1]:
        raise VerifyError(f"{a} and {b} cannot be multiplied")
    return _batch(a, b, 1, 1)


def _dot_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    products = b.op("Mul", *operands)
    return b.op("ReduceSum", products, b.constant([-1]), keepdims=0)


@instruction(
    category="linear algebra",
    operands={"a": _VECTOR, "b": _VECTOR},
    shape=_dot_shape,
    flops=lambda out, a, b: product((2, a.shape[-1], out.elements)),
    onnx=_dot_onnx,
)
def dot(a: Tensor, b: Tensor, /) -> Tensor:
    """y = sum_i a_i b_i over the last axis"""
    return (a * b).sum(-1)


def _outer_shape(a: Type, b: Type) -> tuple[Dim, ...]:
    return (*_batch(a, b, 1, 1), a.shape[-1], b.shape[-1])


def _outer_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    column = b.op("Unsqueeze", operands[0], b.constant([-1]))
    row = b.op("Unsqueeze", operands[1], b.constant([-2]))
    return b.op("Mul", column, row)


@instruction(
    category="linear algebra",
    operands={"a": _VECTOR, "b": _VECTOR},
    shape=_outer_shape,
    onnx=_outer_onnx,
)
def outer(a: Tensor, b: Tensor, /) -> Tensor:
    """c_ij = a_i b_j of the last axes"""
    return a.unsqueeze(-1) * b.unsqueeze(-2)


def _kron_shape(a: Type, b: Type) -> tuple[Dim, ...]:
    (m, n), (p, q) = a.shape[-2:], b.shape[-2:]
    return (*_batch(a, b, 2, 2), product((m, p)), product((n, q)))


def _kron_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    outside = b.op("Unsqueeze", operands[0], b.constant([-1, -3]))
    inside = b.op("Unsqueeze", operands[1], b.constant([-2, -4]))
    blocks = b.op("Mul", outside, inside)
    size = b.constant(list(result.shape[-2:]))
    if result.rank > 2:
        batch = b.op("Shape", blocks, end=result.rank - 2)
        size = b.op("Concat", batch, size, axis=0)
    return b.op("Reshape", blocks, size)


@instruction(
    category="linear algebra",
    operands={"a": _MATRIX, "b": _MATRIX},
    shape=_kron_shape,
    onnx=_kron_onnx,
)
def kron(a: Tensor, b: Tensor, /) -> Tensor:
    """c_(i p + k)(j q + l) = a_ij b_kl, b [.., p, q]"""
    outside = a.unsqueeze(-1).unsqueeze(-3)
    inside = b.unsqueeze(-2).unsqueeze(-4)
    return (outside * inside).flatten(-4, -3).flatten(-2, -1)


def _identity_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    return b.constant(np.eye(attributes["size"], dtype=result.dtype))


@instruction(
    category="linear algebra",
    attributes={"size": Attribute("dim", low=1)},
    shape=lambda *, size: (size, size),
    flops=lambda out, **_: 0,
    onnx=_identity_onnx,
)
def identity(*, size: int, like: Tensor) -> Tensor:
    """c_ij = 1 where i = j, else 0"""
    return torch.diag_embed(like.new_ones((size,)))


def _zeros_shape(*, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    if not shape:
        raise VerifyError("zeros have an axis", do="use scalar(value=0.0)")
    return shape


def _zeros_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    return b.op("Expand", b.constant(0.0), b.shape(attributes["shape"]))


@instruction(
    category="linear algebra",
    attributes={"shape": Attribute("dims", low=1)},
    shape=_zeros_shape,
    flops=lambda out, **_: 0,
    onnx=_zeros_onnx,
)
def zeros(*, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """c = 0"""
    return like.new_zeros(shape)
