"""Pooling over windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, product
from gos_fx.ir.opcode import Operand, instruction, windowed_extent
from gos_fx.ir.types import Type

_KERNELS = ((2, 2), (3, 3))


def _window(x: Type, *, kernel: tuple[Dim, Dim], **_: Any) -> Any:
    return kernel, (1, 1)


def _shape(
    x: Type,
    *,
    kernel: tuple[Dim, Dim],
    stride: tuple[Dim, Dim],
    padding: tuple[int, int, int, int] | None = None,
    **_: Any,
) -> tuple[Dim, ...]:
    extents = []
    for i, name in enumerate("hw"):
        pads = None if padding is None else (padding[2 * i], padding[2 * i + 1])
        extents.append(
            windowed_extent(x.shape[2 + i], name, stride[i], pads, kernel[i])
        )
    return (*x.shape[:2], *extents)


def _flops(out: Type, x: Type, *, kernel: tuple[Dim, Dim], **_: Any) -> Dim:
    return product((out.elements, *kernel))


def _windows(b: Any, x: str, attributes: Any, fill: float) -> tuple[str, Any]:
    """The map that ONNX pools, and the rest of the pool's attributes.

    ONNX pads by less than the kernel; what is wider, or crops, is a Pad before it.
    """
    top, bottom, left, right = attributes["padding"]
    pads, kernel = [top, left, bottom, right], attributes["kernel"]
    windows = {"kernel_shape": list(kernel), "strides": list(attributes["stride"])}
    if all(0 <= pad < k for pad, k in zip(pads, (*kernel, *kernel))):
        return x, windows | {"pads": pads}
    around = b.constant([0, 0, top, left, 0, 0, bottom, right])
    return b.op("Pad", x, around, b.constant(fill)), windows


def _max_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    x, windows = _windows(b, operands[0], attributes, float("-inf"))
    return b.op("MaxPool", x, **windows)


def _avg_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    include = attributes["include_pad"]
    x, windows = _windows(b, operands[0], attributes, 0.0)
    if "pads" in windows or include:
        return b.op("AveragePool", x, **windows, count_include_pad=int(include))
    ones = np.ones((1, 1, *types[0].shape[2:]), result.dtype)
    inside, _ = _windows(b, b.constant(ones), attributes, 0.0)
    means = (b.op("AveragePool", of, **windows) for of in (x, inside))
    return b.op("Div", *means)


_ATTRIBUTES = {
    "kernel": Attribute("dims", (3, 3), choices=_KERNELS, low=1),
    "stride": Attribute("dims", (1, 1), low=1),
}
_IMAGES = {"x": Operand(ranks=(4,))}
_PADDING = {"padding": Attribute("dims", (0, 0, 0, 0), solved=True)}


@instruction(
    category="pooling",
    attributes={**_ATTRIBUTES, **_PADDING},
    operands=_IMAGES,
    shape=_shape,
    flops=_flops,
    window=_window,
    onnx=_max_onnx,
)
def max_pool(
    x: Tensor,
    /,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> Tensor:
    """y[i, j] = max_kl x[s i + k - p, s j + l - p] over the window's part inside x"""
    top, bottom, left, right = padding
    x = F.pad(x, (left, right, top, bottom), value=float("-inf"))
    return F.max_pool2d(x, kernel, stride)


@instruction(
    category="pooling",
    attributes={**_ATTRIBUTES, "include_pad": Attribute("flag", False), **_PADDING},
    operands=_IMAGES,
    shape=_shape,
    flops=_flops,
    window=_window,
    onnx=_avg_onnx,
)
def avg_pool(
    x: Tensor,
    /,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    include_pad: bool,
    padding: tuple[int, int, int, int],
) -> Tensor:
    """y[i, j] = 1/n sum_kl x[s i + k - p, s j + l - p]

    n is the window's size, or that of its part inside x without ``include_pad``.
    """
    top, bottom, left, right = padding
    total = F.avg_pool2d(F.pad(x, (left, right, top, bottom)), kernel, stride)
    if include_pad or padding == (0, 0, 0, 0):
        return total
    inside = torch.ones_like(x[:1, :1])
    inside = F.pad(inside, (left, right, top, bottom))
    return total / F.avg_pool2d(inside, kernel, stride)
