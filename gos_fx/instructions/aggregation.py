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
from gos_fx.ir.opcode import broadcast, instruction
from gos_fx.ir.types import Type, axis_index

_AXIS = {"axis": Attribute("axis", "")}


def _drop(x: Type, axis: str) -> tuple[Dim, ...]:
    index = axis_index(axis, x.rank)
    if x.rank < 3:
        raise VerifyError("an aggregation leaves at least two axes", where=str(x))
    return x.shape[:index] + x.shape[index + 1 :]


def _shape(*types: Type, axis: str) -> tuple[Dim, ...]:
    if axis and len(types) == 1:
        return _drop(types[0], axis)
    if axis or len(types) == 1:
        raise VerifyError("one value with an axis, or several values without one")
    return broadcast(*types)


def _flops(out: Type, *types: Type, **_: Any) -> Dim:
    return types[0].elements if len(types) == 1 else (len(types) - 1) * out.elements


def _over(
    values: tuple[Tensor, ...],
    axis: str,
    along: Callable[[Tensor, int], Tensor],
    pair: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    if axis:
        (x,) = values
        return along(x, axis_index(axis, x.dim()))
    total: Tensor = reduce(pair, aligned(*values))
    return total


_AGGREGATION: dict[str, Any] = {
    "category": "aggregation",
    "attributes": _AXIS,
    "shape": _shape,
    "flops": _flops,
    "variadic": True,
}


@instruction(**_AGGREGATION)
def sum(*values: Tensor, axis: str) -> Tensor:
    """y = sum_i x_i"""
    return _over(values, axis, lambda x, i: x.sum(i), torch.add)


@instruction(**_AGGREGATION)
def mean(*values: Tensor, axis: str) -> Tensor:
    """y = 1/n sum_i x_i"""
    total = _over(values, axis, lambda x, i: x.mean(i), torch.add)
    return total if axis else total / len(values)


@instruction(**_AGGREGATION)
def max(*values: Tensor, axis: str) -> Tensor:
    """y = max_i x_i"""
    return _over(values, axis, lambda x, i: x.amax(i), torch.maximum)


@instruction(**_AGGREGATION)
def min(*values: Tensor, axis: str) -> Tensor:
    """y = min_i x_i"""
    return _over(values, axis, lambda x, i: x.amin(i), torch.minimum)


def _weighted_shape(x: Type, w: Type, *, axis: str) -> tuple[Dim, ...]:
    extent = x.shape[axis_index(axis, x.rank)]
    if w.role == "map" or w.shape != (extent,):
        raise VerifyError(f"the mean of {x} over {axis} needs weight[{extent}]")
    return _drop(x, axis)


@instruction(
    category="aggregation",
    attributes={"axis": Attribute("axis", "ci")},
    shape=_weighted_shape,
    flops=lambda out, x, w, **_: combine("*", 2, x.elements),
)
def weighted_mean(x: Tensor, w: Tensor, /, *, axis: str) -> Tensor:
    """y = sum_i w_i x_i / sum_i w_i along an axis"""
    index = axis_index(axis, x.dim())
    view = [1] * x.dim()
    view[index] = -1
    return (x * w.view(view)).sum(index) / w.sum()


def _concat_shape(*types: Type, axis: str) -> tuple[Dim, ...]:
    first = types[0]
    index = axis_index(axis, first.rank)
    extent: Dim = 0
    for t in types:
        if t.rank != first.rank or t.role != first.role:
            raise VerifyError(f"{t} and {first} cannot be concatenated")
        if t.shape[:index] + t.shape[index + 1 :] != (
            first.shape[:index] + first.shape[index + 1 :]
        ):
            raise VerifyError(f"{t} and {first} differ off the axis {axis}")
        extent = combine("+", extent, t.shape[index])
    return (*first.shape[:index], extent, *first.shape[index + 1 :])


@instruction(
    category="aggregation",
    attributes={"axis": Attribute("axis", "co")},
    shape=_concat_shape,
    flops=lambda out, *types, **_: 0,
    variadic=True,
)
def concat(*values: Tensor, axis: str) -> Tensor:
    """[A, B, ...] along an axis"""
    return torch.cat(values, axis_index(axis, values[0].dim()))
