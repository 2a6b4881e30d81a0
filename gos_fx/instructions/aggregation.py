"""Aggregations: over one named axis of a value, or over several values of one shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.instructions.broadcasting import aligned
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, combine
from gos_fx.ir.opcode import Operand, broadcast, instruction
from gos_fx.ir.types import DTYPES, Type, axis_index

KEEP = Attribute("flag", False, optional=True)


def reduced(x: Type, axis: str, keep: bool) -> tuple[Dim, ...]:
    """The shape without an axis, or with one of size one in its place."""
    index = axis_index(axis, x.rank)
    return x.shape[:index] + ((1,) if keep else ()) + x.shape[index + 1 :]


def reduced_onnx(b: Any, name: str, x: str, of: Type, attributes: Any) -> Any:
    """An ONNX reduction of ``x`` over the axis that the attributes name."""
    axes = b.constant([axis_index(attributes["axis"], of.rank)])
    return b.op(name, x, axes, keepdims=int(attributes.get("keep", False)))


def _shape(*types: Type, axis: str, keep: bool = False) -> tuple[Dim, ...]:
    if axis and len(types) == 1:
        return reduced(types[0], axis, keep)
    if axis or len(types) == 1:
        raise VerifyError("one value with an axis, or several values without one")
    if keep:
        raise VerifyError("several values have no axis to keep")
    return broadcast(*types)


def _flops(out: Type, *types: Type, **_: Any) -> Dim:
    return types[0].elements if len(types) == 1 else (len(types) - 1) * out.elements


def _over(
    values: tuple[Tensor, ...],
    axis: str,
    along: Callable[[Tensor, int], Tensor],
    pair: Callable[[Any, Any], Any],
) -> Tensor:
    if axis:
        (x,) = values
        return along(x, axis_index(axis, x.dim()))
    # Numbers last: each then meets a tensor. The order changes no aggregation.
    ordered = sorted(aligned(*values), key=lambda v: isinstance(v, float))
    total: Tensor = reduce(pair, ordered)
    return total


def _form(over: str, several: str) -> Callable[..., Any]:
    """The ONNX operators over an axis and over several values."""

    def onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
        if attributes["axis"]:
            return reduced_onnx(b, over, operands[0], types[0], attributes)
        return b.op(several, *b.aligned(operands, types))

    return onnx


_AGGREGATION: dict[str, Any] = {
    "category": "aggregation",
    "attributes": {"axis": Attribute("axis", ""), "keep": KEEP},
    "shape": _shape,
    "flops": _flops,
    "variadic": True,
}


@instruction(**_AGGREGATION, onnx=_form("ReduceSum", "Sum"))
def sum(*values: Tensor, axis: str, keep: bool = False) -> Tensor:
    """y = sum_i x_i over an axis, or over several values"""
    return _over(values, axis, lambda x, i: x.sum(i, keepdim=keep), torch.add)


@instruction(**_AGGREGATION, onnx=_form("ReduceMean", "Mean"))
def mean(*values: Tensor, axis: str, keep: bool = False) -> Tensor:
    """y = 1/n sum_i x_i over an axis, or over several values"""
    total = _over(values, axis, lambda x, i: x.mean(i, keepdim=keep), torch.add)
    return total if axis else total / len(values)


def _larger(a: Tensor, b: Any) -> Tensor:
    return torch.clamp(a, min=b) if isinstance(b, float) else torch.maximum(a, b)


def _smaller(a: Tensor, b: Any) -> Tensor:
    return torch.clamp(a, max=b) if isinstance(b, float) else torch.minimum(a, b)


@instruction(**_AGGREGATION, onnx=_form("ReduceMax", "Max"))
def max(*values: Tensor, axis: str, keep: bool = False) -> Tensor:
    """y = max_i x_i over an axis, or over several values"""
    return _over(values, axis, lambda x, i: x.amax(i, keepdim=keep), _larger)


@instruction(**_AGGREGATION, onnx=_form("ReduceMin", "Min"))
def min(*values: Tensor, axis: str, keep: bool = False) -> Tensor:
    """y = min_i x_i over an axis, or over several values"""
    return _over(values, axis, lambda x, i: x.amin(i, keepdim=keep), _smaller)


def _weighted_shape(
    x: Type, w: Type, *, axis: str, keep: bool = False
) -> tuple[Dim, ...]:
    extent = x.shape[axis_index(axis, x.rank)]
    if w.shape != (extent,):
        raise VerifyError(f"the mean of {x} over {axis} needs weight[{extent}]")
    return reduced(x, axis, keep)


def _weighted_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    (x, w), (of, _) = operands, types
    shape = [1] * of.rank
    shape[axis_index(attributes["axis"], of.rank)] = -1
    products = b.op("Mul", x, b.op("Reshape", w, b.constant(shape)))
    total = reduced_onnx(b, "ReduceSum", products, of, attributes)
    return b.op("Div", total, b.op("ReduceSum", w, keepdims=0))


@instruction(
    category="aggregation",
    attributes={"axis": Attribute("axis", "ci"), "keep": KEEP},
    operands={"w": Operand(("weight", "constant"), (1,))},
    shape=_weighted_shape,
    flops=lambda out, x, w, **_: combine("*", 2, x.elements),
    onnx=_weighted_onnx,
)
def weighted_mean(x: Tensor, w: Tensor, /, *, axis: str, keep: bool = False) -> Tensor:
    """y = sum_i w_i x_i / sum_i w_i along an axis"""
    index = axis_index(axis, x.dim())
    view = [1] * x.dim()
    view[index] = -1
    return (x * w.view(view)).sum(index, keepdim=keep) / w.sum()


def _concat_shape(*types: Type, axis: str) -> tuple[Dim, ...]:
    first = types[0]
    index = axis_index(axis, first.rank)
    extent: Dim = 0
    for t in types:
        if t.rank != first.rank:
            raise VerifyError(f"{t} and {first} cannot be concatenated")
        if t.shape[:index] + t.shape[index + 1 :] != (
            first.shape[:index] + first.shape[index + 1 :]
        ):
            raise VerifyError(f"{t} and {first} differ off the axis {axis}")
        extent = combine("+", extent, t.shape[index])
    return (*first.shape[:index], extent, *first.shape[index + 1 :])


def _concat_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    return b.op("Concat", *operands, axis=axis_index(attributes["axis"], result.rank))


@instruction(
    category="aggregation",
    attributes={"axis": Attribute("axis", "co")},
    operands={"values": Operand(dtypes=DTYPES)},
    shape=_concat_shape,
    flops=lambda out, *types, **_: 0,
    variadic=True,
    onnx=_concat_onnx,
)
def concat(*values: Tensor, axis: str) -> Tensor:
    """y = [a, b, ...] along an axis"""
    return torch.cat(values, axis_index(axis, values[0].dim()))
