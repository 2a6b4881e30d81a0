"""Instructions that move values and compute nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gos_fx.errors import VerifyError
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, product
from gos_fx.ir.opcode import Operand, instruction
from gos_fx.ir.types import DTYPES, Type, axis_index

# Not a scalar: that has no memory in which its elements could lie otherwise.
_ANY = {"x": Operand(("map", "weight", "constant"), dtypes=DTYPES)}
_END = -(2**63) + 1  # what ONNX takes as the end of a slice that runs backwards


def _free(out: Type, *types: Type, **_: Any) -> Dim:
    return 0


def _reshape_shape(x: Type, *, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    if product(shape) != x.elements:
        raise VerifyError(f"{x} cannot take the shape {tuple(map(str, shape))}")
    return shape


def _reshape_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    return b.op("Reshape", *operands, b.constant(list(attributes["shape"])))


@instruction(
    category="structure",
    attributes={"shape": Attribute("dims", low=1)},
    operands=_ANY,
    shape=_reshape_shape,
    flops=_free,
    table1=False,
    onnx=_reshape_onnx,
)
def reshape(x: Tensor, /, *, shape: tuple[int, ...]) -> Tensor:
    """The same elements in row-major order under another shape"""
    return x.reshape(shape)


def _transpose_shape(x: Type, *, axes: tuple[int, ...]) -> tuple[Dim, ...]:
    if sorted(axes) != list(range(x.rank)):
        raise VerifyError(f"{axes} is no permutation of the axes of {x}")
    return tuple(x.shape[axis] for axis in axes)


def _transpose_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    return b.op("Transpose", *operands, perm=list(attributes["axes"]))


@instruction(
    category="structure",
    attributes={"axes": Attribute("axes", low=0)},
    operands=_ANY,
    shape=_transpose_shape,
    flops=_free,
    table1=False,
    onnx=_transpose_onnx,
)
def transpose(x: Tensor, /, *, axes: tuple[int, ...]) -> Tensor:
    """y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]"""
    return x.permute(axes)


def _flip_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    axis = axis_index(attributes["axis"], result.rank)
    bounds = (b.constant([value]) for value in (-1, _END, axis, -1))
    return b.op("Slice", *operands, *bounds)


@instruction(
    category="structure",
    attributes={"axis": Attribute("axis", "co")},
    operands=_ANY,
    shape=lambda x, *, axis: (axis_index(axis, x.rank), x.shape)[1],
    flops=_free,
    table1=False,
    onnx=_flip_onnx,
)
def flip(x: Tensor, /, *, axis: str) -> Tensor:
    """y_i = x_(n - 1 - i) along an axis of n"""
    return x.flip(axis_index(axis, x.dim()))


def _slice_shape(
    x: Type, *, axis: int, start: Dim, size: Dim, step: Dim
) -> tuple[Dim, ...]:
    if not isinstance(axis, int) or axis >= x.rank:
        raise VerifyError(f"{x} has no axis {axis}")
    extent = x.shape[axis]
    last = start + (size - 1) * step
    if isinstance(last, int) and isinstance(extent, int) and last >= extent:
        raise VerifyError(f"element {last} of an axis of {extent}", where=str(x))
    return (*x.shape[:axis], size, *x.shape[axis + 1 :])


def _slice_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    start, step = attributes["start"], attributes["step"]
    end = start + (attributes["size"] - 1) * step + 1
    bounds = (b.constant([value]) for value in (start, end, attributes["axis"], step))
    return b.op("Slice", *operands, *bounds)


@instruction(
    category="structure",
    attributes={
        "axis": Attribute("dim", low=0),
        "start": Attribute("dim", 0, low=0),
        "size": Attribute("dim", low=1),
        "step": Attribute("dim", 1, low=1),
    },
    operands=_ANY,
    shape=_slice_shape,
    flops=_free,
    table1=False,
    onnx=_slice_onnx,
)
def slice_(x: Tensor, /, *, axis: int, start: int, size: int, step: int) -> Tensor:
    """y_i = x_(start + step i), i < size, along the axis of this number"""
    kept = slice(start, start + (size - 1) * step + 1, step)
    return x[(*[slice(None)] * axis, kept)]


@instruction(
    category="structure",
    operands={
        "table": Operand(ranks=(2,)),
        "indices": Operand(ranks=(0, 1, 2, 3, 4), dtypes=("int64",)),
    },
    shape=lambda table, indices: (*indices.shape, table.shape[1]),
    flops=_free,
    moved=lambda out, table, indices: 8 * (out.elements + indices.elements),
    table1=False,
    mixed=True,
    opaque=True,
    onnx="Gather",
)
def gather(table: Tensor, indices: Tensor, /) -> Tensor:
    """y[.., c] = table[indices[..], c], 0 <= indices < rows of the table"""
    return F.embedding(indices, table)


def _cast_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    return b.op("Cast", *operands, to=b.type(attributes["dtype"]))


@instruction(
    category="structure",
    attributes={"dtype": Attribute("name", choices=DTYPES)},
    operands=_ANY,
    shape=lambda x, *, dtype: x.shape,
    dtype=lambda x, *, dtype: dtype,
    flops=_free,
    table1=False,
    onnx=_cast_onnx,
)
def cast(x: Tensor, /, *, dtype: str) -> Tensor:
    """y = x as numbers of another kind; towards zero where they are integers"""
    return x.to(getattr(torch, dtype))
