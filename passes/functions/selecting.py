"""Parts of maps: indices, slices, chunks."""

from __future__ import annotations

import operator
from itertools import accumulate
from typing import Any

import torch

from gos_fx.errors import Unsupported
from gos_fx.ir.dim import Dim, Expr
from gos_fx.passes.functions.operands import (
    Dims,
    axis_of,
    shape_of,
    shaped,
    value_of,
)
from gos_fx.passes.lower import Lowering, function


@function(operator.getitem)
def getitem(state: Lowering, out: Dims, x: Any, index: Any) -> str:
    """Numbers and slices with positive steps; None adds an axis, as the shape says."""
    value = value_of(state, x)
    items = list(index) if isinstance(index, tuple) else [index]
    rank = len(shape_of(state, value))
    if Ellipsis in items:
        at = items.index(Ellipsis)
        missing = rank - sum(item is not None for item in items) + 1
        items[at : at + 1] = [slice(None)] * missing
    axes = [item for item in items if item is not None]
    for axis, item in enumerate(axes):
        value = _along(state, value, axis, item)
    return shaped(state, value, out)


def _along(state: Lowering, value: str, axis: int, item: Any) -> str:
    extent = shape_of(state, value)[axis]
    if isinstance(item, slice) and item == slice(None):
        return value
    if isinstance(item, int) and not isinstance(item, bool):
        return _sliced(state, value, axis, _from_front(item, extent), 1)
    if not isinstance(item, slice):
        raise Unsupported(f"an index that is no number: {item}")
    if isinstance(extent, int) and all(
        part is None or isinstance(part, int) for part in _parts(item)
    ):
        start, stop, step = item.indices(extent)
        if step < 1:
            raise Unsupported(f"a step of {step}")
        size = len(range(start, stop, step))
        return _sliced(state, value, axis, start, size, step)
    first, last, step = _parts(item)
    if step not in (None, 1):
        raise Unsupported(f"every {step} of {extent}")
    begin = 0 if first is None else _from_front(first, extent)
    end = extent if last is None else _from_front(last, extent)
    return _sliced(state, value, axis, begin, end - begin)


def _parts(item: slice) -> tuple[Any, Any, Any]:
    return item.start, item.stop, item.step


def _from_front(index: Dim, extent: Dim) -> Dim:
    return extent - -index if isinstance(index, int) and index < 0 else index


def _sliced(
    state: Lowering, value: str, axis: int, start: Dim, size: Dim, step: int = 1
) -> str:
    if (start, size) == (0, shape_of(state, value)[axis]):
        return value
    return state.builder.emit(
        "slice", value, axis=axis, start=start, size=size, step=step
    )


@function(torch.narrow, "narrow")
def narrow(
    state: Lowering, out: Dims, x: Any, dim: int, start: int, length: int
) -> str:
    axis = axis_of(dim, len(out))
    return _sliced(state, value_of(state, x), axis, start, length)


@function(torch.select, "select")
def select(state: Lowering, out: Dims, x: Any, dim: int, index: int) -> str:
    value = value_of(state, x)
    axis = axis_of(dim, len(shape_of(state, value)))
    return shaped(state, _along(state, value, axis, index), out)


@function(torch.chunk, "chunk", torch.split, "split", torch.unbind, "unbind")
def parts(
    state: Lowering, out: tuple[Dims, ...], x: Any, *arguments: Any, **options: Any
) -> list[str]:
    """Runs along an axis, as long as the shapes of the results say."""
    value = value_of(state, x)
    shape = shape_of(state, value)
    unbound = len(out[0]) < len(shape)
    dim = options.get("dim", arguments[-1] if len(arguments) > (not unbound) else 0)
    axis = axis_of(dim, len(shape))
    if isinstance(shape[axis], Expr):
        raise Unsupported("parts of the batch")
    sizes: list[Any] = [1 if unbound else part[axis] for part in out]
    starts = [0, *accumulate(sizes)]
    return [
        shaped(state, _sliced(state, value, axis, start, size), part)
        for start, size, part in zip(starts, sizes, out, strict=False)
    ]
