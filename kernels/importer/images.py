"""ATen operators on images, and means and norms over axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from gos_fx.kernels.importer.builder import Builder, Operand, Value
from gos_fx.kernels.importer.rules import (
    Shape,
    aten,
    axis_name,
    elementwise,
    reshaped,
)


def _pair(value: Any) -> tuple[int, int]:
    given = [value] if isinstance(value, int) else list(value)
    return (given * 2)[0], (given * 2)[1]


@aten("convolution.default")
def convolution(
    b: Builder,
    out: Shape,
    x: Operand,
    w: Operand,
    bias: Operand | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Value | None:
    if transposed or len(out) != 4:
        return None
    top, left = _pair(padding)
    maps = b.emit(
        "cross_correlation",
        x,
        b.value(w, "weight"),
        out=(out[0], out[1], w.shape[1], *out[2:]),
        stride=_pair(stride),
        dilation=_pair(dilation),
        groups=groups,
        padding=(top, top, left, left),
    )
    result = b.emit("sum", maps, out=out, axis="ci")
    return result if bias is None else b.emit("add", result, bias, out=out)


@aten("conv2d.default", "conv2d.padding")
def conv2d(
    b: Builder,
    out: Shape,
    x: Operand,
    w: Operand,
    bias: Operand | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value | None:
    if isinstance(padding, str):
        return None
    return convolution(b, out, x, w, bias, stride, padding, dilation, False, 0, groups)


def _window(
    x: Operand, out: Shape, kernel: Any, stride: Any, padding: Any
) -> dict[str, tuple[int, ...]]:
    """Attributes of a pool; what is behind follows from the size of the result."""
    kernel, padding = _pair(kernel), _pair(padding)
    stride = _pair(stride) if stride else kernel
    sides: list[int] = []
    for i in (0, 1):
        reach = (out[2 + i] - 1) * stride[i] + kernel[i]
        sides += [padding[i], reach - int(x.shape[2 + i]) - padding[i]]
    return {"kernel": kernel, "stride": stride, "padding": tuple(sides)}


@aten("max_pool2d.default")
def max_pool(
    b: Builder,
    out: Shape,
    x: Operand,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Value | None:
    if len(out) != 4 or _pair(dilation) != (1, 1):
        return None
    return b.emit("max_pool", x, out=out, **_window(x, out, kernel, stride, padding))


@aten("max_pool2d_with_indices.default")
def max_pool_with_indices(
    b: Builder, out: Sequence[Shape], x: Operand, *args: Any, **more: Any
) -> tuple[Value | None, None]:
    return max_pool(b, out[0], x, *args, **more), None


@aten("avg_pool2d.default")
def avg_pool(
    b: Builder,
    out: Shape,
    x: Operand,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value | None:
    padded = _pair(padding) != (0, 0) and count_include_pad
    if len(out) != 4 or divisor_override is not None or (ceil_mode and padded):
        return None
    window = _window(x, out, kernel, stride, padding)
    return b.emit("avg_pool", x, out=out, **window, include_pad=padded)


@aten("adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default")
def adaptive_avg_pool(b: Builder, out: Shape, x: Operand, size: Any) -> Value | None:
    height, width = x.shape[-2:]
    if len(out) == 4 and (height, width) == (1, 1):
        return b.emit("expand", x, out=out, shape=out)
    if len(out) != 4 or height % out[2] or width % out[3]:
        return None
    kernel = (height // out[2], width // out[3])
    return avg_pool(b, out, x, kernel, kernel)


@aten("upsample_nearest2d.vec", "upsample_nearest2d.default")
def upsample(b: Builder, out: Shape, x: Operand, *to: Any) -> Value | None:
    whole = out[2] % x.shape[2] == 0 and out[3] % x.shape[3] == 0
    return b.emit("resize", x, out=out, size=tuple(out[2:])) if whole else None


def _reduced(
    b: Builder, opcode: str, out: Shape, x: Operand, dims: Any
) -> Operand | None:
    """An aggregation over neighbouring axes."""
    rank = len(x.shape)
    axes = sorted(axis % rank for axis in (dims if dims else range(rank)))
    if axes != list(range(axes[0], axes[-1] + 1)) or len(axes) == rank:
        return None
    if opcode == "mean" and rank == 4 and axes == [2, 3]:
        pooled = (*x.shape[:2], 1, 1)
        y: Operand | None = adaptive_avg_pool(b, pooled, x, (1, 1))
        return None if y is None else reshaped(b, y, out)
    before, after = x.shape[: axes[0]], x.shape[axes[-1] + 1 :]
    count = prod(x.shape[axes[0] : axes[-1] + 1])
    kept = (prod(before), prod(after)) if after else (prod(before),)
    packed = reshaped(b, x, (kept[0], count, *kept[1:]))
    axis = axis_name(len(packed.shape), 1)
    return reshaped(b, b.emit(opcode, packed, out=kept, axis=axis), out)


@aten("mean.dim")
def mean(
    b: Builder, out: Shape, x: Operand, dims: Any, keepdim: bool = False
) -> Operand | None:
    return _reduced(b, "mean", out, x, dims)


@aten("sum.dim_IntList")
def total(
    b: Builder, out: Shape, x: Operand, dims: Any, keepdim: bool = False
) -> Operand | None:
    return _reduced(b, "sum", out, x, dims)


@aten("amax.default")
def largest(
    b: Builder, out: Shape, x: Operand, dims: Any = (), keepdim: bool = False
) -> Operand | None:
    return _reduced(b, "max", out, x, dims)


@aten("amin.default")
def smallest(
    b: Builder, out: Shape, x: Operand, dims: Any = (), keepdim: bool = False
) -> Operand | None:
    return _reduced(b, "min", out, x, dims)


@aten("_native_batch_norm_legit_no_training.default")
def batch_norm(
    b: Builder,
    out: Sequence[Shape],
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    mean: Operand,
    variance: Operand,
    momentum: float,
    eps: float,
) -> Any:
    """x * gain + shift, both known beforehand, along axis 1."""
    given = [weight, bias, mean, variance]
    if not all(isinstance(t, Tensor) for t in given if t is not None):
        return None
    assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
    gain = 1.0 / torch.sqrt(variance.double() + eps)
    gain = gain * weight.double() if isinstance(weight, Tensor) else gain
    shift = -mean.double() * gain
    shift = shift + bias.double() if isinstance(bias, Tensor) else shift
    shape = (-1,) + (1,) * (len(out[0]) - 2)
    y = elementwise(b, out[0], "hadamard", x, gain.float().reshape(shape))
    if y is not None:
        y = elementwise(b, out[0], "add", y, shift.float().reshape(shape))
    return y, None, None
