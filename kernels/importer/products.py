"""ATen operators of attention and linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor

from gos_fx.ir.types import AXES
from gos_fx.kernels.importer.builder import Builder, Operand, Value
from gos_fx.kernels.importer.moving import expand, transposed
from gos_fx.kernels.importer.rules import (
    Shape,
    aten,
    axis_name,
    elementwise,
    reshaped,
)


@aten("mm.default", "bmm.default")
def product(b: Builder, out: Shape, x: Operand, y: Operand) -> Value:
    return b.emit("matmul", x, y, out=out)


@aten("matmul.default")
def matmul(b: Builder, out: Shape, x: Operand, y: Operand) -> Operand | None:
    """Maps of rank 3 and more, batched over all axes but the last two."""
    if len(x.shape) < 2 or len(y.shape) < 2:
        return None
    if len(y.shape) == 2:
        rows = reshaped(b, x, (prod(x.shape[:-1]), x.shape[-1]))
        found = b.emit("matmul", rows, y, out=(rows.shape[0], out[-1]))
        return reshaped(b, found, out)
    batch = out[:-2]
    factors = []
    for factor in (x, y):
        size = tuple(factor.shape[-2:])
        whole = expand(b, (*batch, *size), factor, None)
        factors.append(reshaped(b, whole, (prod(batch), *size)))
    return reshaped(b, b.emit("matmul", *factors, out=(prod(batch), *out[-2:])), out)


@aten("linear.default")
def linear(
    b: Builder, out: Shape, x: Operand, w: Operand, bias: Operand | None = None
) -> Operand | None:
    if len(w.shape) != 2:
        return None
    rows = reshaped(b, x, (prod(x.shape[:-1]), x.shape[-1]))
    columns = b.emit("transpose", w, out=(w.shape[1], w.shape[0]), axes=(1, 0))
    shape = (rows.shape[0], w.shape[0])
    found = b.emit("matmul", rows, columns, out=shape)
    if bias is not None:
        found = b.emit("add", found, bias, out=shape)
    return reshaped(b, found, out)


@aten("addmm.default", "baddbmm.default")
def addmm(
    b: Builder,
    out: Shape,
    bias: Operand,
    x: Operand,
    y: Operand,
    beta: float = 1,
    alpha: float = 1,
) -> Value | None:
    if (beta, alpha) != (1, 1):
        return None
    return elementwise(b, out, "add", b.emit("matmul", x, y, out=out), bias)


@aten("_softmax.default")
def softmax(
    b: Builder, out: Shape, x: Operand, dim: int, half_to_float: bool = False
) -> Operand | None:
    if dim % len(out) == len(out) - 1:  # the rows alone count
        rows = reshaped(b, x, (prod(out[:-1]), out[-1]))
        y = b.emit("softmax", rows, out=rows.shape, axis=axis_name(2, -1))
        return reshaped(b, y, out)
    if len(out) not in AXES:
        return None
    return b.emit("softmax", x, out=out, axis=axis_name(len(out), dim))


@aten("softmax.int")
def softmax_int(
    b: Builder, out: Shape, x: Operand, dim: int, dtype: Any = None
) -> Operand | None:
    return softmax(b, out, x, dim) if dtype in (None, torch.float32) else None


@aten("layer_norm.default")
def layer_norm(
    b: Builder,
    out: Shape,
    x: Operand,
    normalized: Sequence[int],
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
    enable: bool = True,
) -> Operand | None:
    size = prod(normalized)
    rows = reshaped(b, x, (*out[: len(out) - len(normalized)], size))
    affine = []
    if weight is None and bias is not None:
        weight = torch.ones(size)
    for given in (weight, bias):
        if given is not None:
            affine.append(reshaped(b, given, (size,)))
    if weight is not None and bias is None:
        affine = affine[:1]
    y = b.emit("layer_norm", rows, *affine, out=rows.shape, eps=float(eps))
    return reshaped(b, y, out)


@aten("native_layer_norm.default")
def native_layer_norm(
    b: Builder, out: Sequence[Shape], x: Operand, *args: Any
) -> tuple[Operand | None, None, None]:
    return layer_norm(b, out[0], x, *args), None, None


@aten("scaled_dot_product_attention.default")
def attention(
    b: Builder,
    out: Shape,
    query: Operand,
    key: Operand,
    value: Operand,
    mask: Operand | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Operand | None:
    """softmax(scale q k^T + mask) v, batched over all axes but the last two."""
    batch = out[:-2]
    is_same = all(tuple(x.shape[:-2]) == batch for x in (query, key, value))
    if dropout or enable_gqa or not is_same or (causal and mask is not None):
        return None
    if mask is not None and isinstance(mask, Tensor) and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    rows, columns, width = query.shape[-2], key.shape[-2], query.shape[-1]
    heads = prod(batch)
    q, k, v = (reshaped(b, x, (heads, *x.shape[-2:])) for x in (query, key, value))
    if causal:
        mask = torch.full((rows, columns), float("-inf")).triu(1)
    shape = (heads, rows, columns)
    scores = b.emit("matmul", q, transposed(b, k, (0, 2, 1)), out=shape)
    factor = 1.0 / sqrt(width) if scale is None else scale
    scores = b.emit("affine", scores, out=shape, scale=float(factor), shift=0.0)
    if mask is not None:
        whole = (*batch, rows, columns)
        if len(mask.shape) > 2 and prod(mask.shape[:-2]) > 1:
            mask = reshaped(b, expand(b, whole, mask, None), shape)
        else:
            mask = reshaped(b, mask, tuple(mask.shape[-2:]))
        found = elementwise(b, shape, "add", scores, mask)
        if found is None:
            return None
        scores = found
    shares = softmax(b, shape, scores, -1)
    assert shares is not None
    mixed = b.emit("matmul", shares, v, out=(heads, rows, out[-1]))
    return reshaped(b, mixed, out)
