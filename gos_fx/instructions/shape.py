"""Instructions that move values and compute nothing."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from gos_fx.errors import VerifyError
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, product
from gos_fx.ir.opcode import instruction
from gos_fx.ir.types import Type


def _free(out: Type, *types: Type, **_: Any) -> Dim:
    return 0


def _reshape_shape(x: Type, *, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    if product(shape) != x.elements:
        raise VerifyError(f"{x} cannot take the shape {tuple(map(str, shape))}")
    return shape


@instruction(
    category="structure",
    attributes={"shape": Attribute("dims")},
    shape=_reshape_shape,
    flops=_free,
    table1=False,
)
def reshape(x: Tensor, /, *, shape: tuple[int, ...]) -> Tensor:
    """The same elements in row-major order under another shape"""
    return x.reshape(shape)


def _transpose_shape(x: Type, *, axes: tuple[int, ...]) -> tuple[Dim, ...]:
    if sorted(axes) != list(range(x.rank)):
        raise VerifyError(f"{axes} is no permutation of the axes of {x}")
    return tuple(x.shape[axis] for axis in axes)


@instruction(
    category="structure",
    attributes={"axes": Attribute("axes")},
    shape=_transpose_shape,
    flops=_free,
    table1=False,
)
def transpose(x: Tensor, /, *, axes: tuple[int, ...]) -> Tensor:
    """y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]"""
    return x.permute(axes)


def _resize_shape(x: Type, *, size: tuple[Dim, ...]) -> tuple[Dim, ...]:
    if x.rank != 4 or len(size) != 2:
        raise VerifyError(f"resize takes map[N, C, H, W] and two sizes, not {x}")
    return (*x.shape[:2], *size)


@instruction(
    category="structure",
    attributes={"size": Attribute("dims")},
    shape=_resize_shape,
    flops=_free,
    table1=False,
)
def resize(x: Tensor, /, *, size: tuple[int, int]) -> Tensor:
    """y[.., i, j] = x[.., floor(i H / H'), floor(j W / W')]: nearest neighbour"""
    return F.interpolate(x, size=size, mode="nearest")
