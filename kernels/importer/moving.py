"""ATen operators that only move values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gos_fx.ir.types import AXES
from gos_fx.kernels.importer.builder import Builder, Operand, Value
from gos_fx.kernels.importer.rules import Shape, aten, axis_name, reshaped


@aten(
    *("view.default", "_unsafe_view.default", "reshape.default", "flatten.using_ints"),
    *("unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims"),
    *("unflatten.int", "alias_copy.default"),
)
def reshape(b: Builder, out: Shape, x: Operand, *to: Any) -> Operand:
    return reshaped(b, x, out)


def transposed(b: Builder, x: Operand, axes: Sequence[int]) -> Operand:
    """The axes in another order."""
    axes = tuple(axis % len(x.shape) for axis in axes)
    if axes == tuple(range(len(axes))):
        return x
    if isinstance(x, Tensor):
        return x.permute(axes)
    shape = [x.shape[axis] for axis in axes]
    return b.emit("transpose", x, out=shape, axes=axes)


@aten("permute.default")
def permute(b: Builder, out: Shape, x: Operand, dims: Sequence[int]) -> Operand:
    return transposed(b, x, dims)


@aten("transpose.int", "t.default")
def transpose(b: Builder, out: Shape, x: Operand, i: int = 0, j: int = 1) -> Operand:
    axes = list(range(len(x.shape)))
    if len(axes) > 1:
        axes[i], axes[j] = axes[j], axes[i]
    return transposed(b, x, axes)


@aten("expand.default")
def expand(
    b: Builder, out: Shape, x: Operand, size: Any, implicit: bool = False
) -> Operand:
    x = reshaped(b, x, (1,) * (len(out) - len(x.shape)) + tuple(x.shape))
    if tuple(x.shape) == out:
        return x
    return b.emit("expand", x, out=out, shape=out)


def _part(
    b: Builder, x: Operand, axis: int, start: int, size: int, step: int = 1
) -> Operand:
    """Elements start, start + step, ... of an axis."""
    axis %= len(x.shape)
    if (start, size, step) == (0, x.shape[axis], 1):
        return x
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    return b.emit("slice", x, out=shape, axis=axis, start=start, step=step, size=size)


@aten("slice.Tensor")
def slice_(
    b: Builder,
    out: Shape,
    x: Operand,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Operand:
    extent = x.shape[dim]
    first = min(max((start or 0) + (extent if (start or 0) < 0 else 0), 0), extent)
    return _part(b, x, dim, first, out[dim], step)


@aten("narrow.default")
def narrow(
    b: Builder, out: Shape, x: Operand, dim: int, start: int, length: int
) -> Operand:
    return _part(b, x, dim, start % x.shape[dim], length)


@aten("select.int")
def select(b: Builder, out: Shape, x: Operand, dim: int, index: int) -> Operand:
    return reshaped(b, _part(b, x, dim, index % x.shape[dim], 1), out)


@aten("split_with_sizes.default", "split.Tensor", "chunk.default", "split.sizes")
def split(
    b: Builder, out: Sequence[Shape], x: Operand, sizes: Any, dim: int = 0
) -> tuple[Operand, ...]:
    start, parts = 0, []
    for shape in out:
        parts.append(_part(b, x, dim, start, shape[dim]))
        start += shape[dim]
    return tuple(parts)


@aten("unbind.int")
def unbind(
    b: Builder, out: Sequence[Shape], x: Operand, dim: int = 0
) -> tuple[Operand, ...]:
    parts = (_part(b, x, dim, i, 1) for i in range(len(out)))
    return tuple(reshaped(b, part, out[0]) for part in parts)


@aten("cat.default")
def cat(b: Builder, out: Shape, parts: Sequence[Operand], dim: int = 0) -> Any:
    rank = len(out)
    if rank not in AXES or any(len(part.shape) != rank for part in parts):
        return None
    if len(parts) == 1:
        return parts[0]
    return b.emit("concat", *parts, out=out, axis=axis_name(rank, dim))


@aten("stack.default")
def stack(b: Builder, out: Shape, parts: Sequence[Operand], dim: int = 0) -> Any:
    dim %= len(out)
    shape = (*out[:dim], 1, *out[dim + 1 :])
    return cat(b, out, [reshaped(b, part, shape) for part in parts], dim)


@aten("constant_pad_nd.default")
def pad(
    b: Builder, out: Shape, x: Operand, amounts: Sequence[int], value: float = 0.0
) -> Value:
    """``amounts`` are those before and after each axis, from the last one on."""
    missing = len(x.shape) - len(amounts) // 2
    before = (0,) * missing + tuple(reversed(amounts[::2]))
    after = (0,) * missing + tuple(reversed(amounts[1::2]))
    return b.emit(
        "surround", x, out=out, before=before, after=after, value=float(value)
    )
