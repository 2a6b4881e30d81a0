"""Pooling over windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gos_fx.errors import VerifyError
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, product
from gos_fx.ir.opcode import instruction, windowed_extent
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
    if x.rank != 4:
        raise VerifyError(f"pooling takes map[N, C, H, W], not {x}")
    extents = []
    for i, name in enumerate("hw"):
        pads = None if padding is None else (padding[2 * i], padding[2 * i + 1])
        extents.append(
            windowed_extent(x.shape[2 + i], name, stride[i], pads, kernel[i])
        )
    return (*x.shape[:2], *extents)


def _flops(out: Type, x: Type, *, kernel: tuple[Dim, Dim], **_: Any) -> Dim:
    return product((out.elements, *kernel))


_ATTRIBUTES = {
    "kernel": Attribute("dims", (3, 3), choices=_KERNELS),
    "stride": Attribute("dims", (1, 1)),
}
_PADDING = {"padding": Attribute("dims", (0, 0, 0, 0), solved=True)}


@instruction(
    category="pooling",
    attributes={**_ATTRIBUTES, **_PADDING},
    shape=_shape,
    flops=_flops,
    window=_window,
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
    shape=_shape,
    flops=_flops,
    window=_window,
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
