"""Norms, and the trace: sums over the elements of vectors and matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gos_fx.errors import Unsupported, VerifyError
from gos_fx.instructions.aggregation import KEEP, reduced, reduced_onnx
from gos_fx.instructions.factorisations import MATRIX, guarded, singular_value_flops
from gos_fx.instructions.linalg import MATRICES
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, combine
from gos_fx.ir.opcode import Operand, instruction
from gos_fx.ir.types import Type, axis_index

_VECTORS = {"x": Operand(("map", "weight", "constant"))}
_MATRIX = {"x": Operand(("map", "weight", "constant"), MATRICES)}
_ORDERS = {"1": 1.0, "2": 2.0, "inf": float("inf")}


def _trace_shape(x: Type) -> tuple[Dim, ...]:
    if x.shape[-1] != x.shape[-2]:
        raise VerifyError(f"{x} is not square")
    return x.shape[:-2]


def _trace_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    diagonal = b.constant(np.eye(types[0].shape[-1], dtype=bool))
    kept = b.op("Where", diagonal, *operands, b.constant(0.0))
    return b.op("ReduceSum", kept, b.constant([-2, -1]), keepdims=0)


@instruction(
    category="linear algebra",
    operands=_MATRIX,
    shape=_trace_shape,
    flops=lambda out, x: combine("*", x.shape[-1], out.elements),
    onnx=_trace_onnx,
)
def trace(x: Tensor, /) -> Tensor:
    """y = sum_i x_ii"""
    return x.diagonal(0, -2, -1).sum(-1)


def _vector_norm_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    (x,) = operands
    match attributes["ord"]:
        case "1":
            return reduced_onnx(b, "ReduceL1", x, types[0], attributes)
        case "2":
            return reduced_onnx(b, "ReduceL2", x, types[0], attributes)
    return reduced_onnx(b, "ReduceMax", b.op("Abs", x), types[0], attributes)


@instruction(
    category="linear algebra",
    attributes={
        "ord": Attribute("name", "2", choices=tuple(_ORDERS)),
        "axis": Attribute("axis", "co"),
        "keep": KEEP,
    },
    operands=_VECTORS,
    shape=lambda x, *, ord, axis, keep=False: reduced(x, axis, keep),
    flops=lambda out, x, **_: 2 * x.elements,
    onnx=_vector_norm_onnx,
)
def vector_norm(x: Tensor, /, *, ord: str, axis: str, keep: bool = False) -> Tensor:
    """y = sum_i |x_i|, sqrt(sum_i x_i^2) or max_i |x_i| along an axis"""
    dim = axis_index(axis, x.dim())
    y: Tensor = torch.linalg.vector_norm(x, _ORDERS[ord], dim, keep)
    return y


def _matrix_norm_flops(out: Type, x: Type, *, ord: str) -> Dim:
    return 2 * x.elements if ord in _ORDERS and ord != "2" else singular_value_flops(x)


def _matrix_norm_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    ord = attributes["ord"]
    if ord in ("2", "nuclear"):
        raise Unsupported("ONNX has no singular values", where=f"matrix_norm, {ord}")
    summed, largest = (-2, -1) if ord == "1" else (-1, -1)
    sums = b.op("ReduceL1", *operands, b.constant([summed]), keepdims=0)
    return b.op("ReduceMax", sums, b.constant([largest]), keepdims=0)


@instruction(
    category="linear algebra",
    attributes={"ord": Attribute("name", "2", choices=(*_ORDERS, "nuclear"))},
    operands=MATRIX,
    shape=lambda x, *, ord: x.shape[:-2],
    flops=_matrix_norm_flops,
    exact=False,
    opaque=True,
    onnx=_matrix_norm_onnx,
)
def matrix_norm(x: Tensor, /, *, ord: str) -> Tensor:
    """y = max_j sum_i |x_ij|, max_i sum_j |x_ij|, the largest singular value, their sum

    In this order for ``ord`` 1, inf, 2 and nuclear.
    """
    if ord in ("1", "inf"):
        return x.abs().sum(-2 if ord == "1" else -1).amax(-1)
    (values,) = guarded(x, lambda m: (torch.linalg.svdvals(m),))
    return values.amax(-1) if ord == "2" else values.sum(-1)


def _frobenius_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    return b.op("ReduceL2", *operands, b.constant([-2, -1]), keepdims=0)


@instruction(
    category="linear algebra",
    operands=_MATRIX,
    shape=lambda x: x.shape[:-2],
    flops=lambda out, x: 2 * x.elements,
    onnx=_frobenius_onnx,
)
def frobenius_norm(x: Tensor, /) -> Tensor:
    """y = sqrt(sum_ij x_ij^2)"""
    y: Tensor = torch.linalg.vector_norm(x, 2.0, (-2, -1))
    return y
