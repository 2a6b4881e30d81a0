"""Functions that move values: other shapes, other orders, copies side by side."""

from __future__ import annotations

from typing import Any

import torch

from gos_fx.errors import Unsupported
from gos_fx.ir.types import AXES
from gos_fx.passes.functions.operands import (
    Dims,
    axis_of,
    shape_of,
    shaped,
    value_of,
)
from gos_fx.passes.lower import Lowering, function


@function(
    *(torch.flatten, "flatten", torch.reshape, "reshape", "view", "reshape_as"),
    *(torch.squeeze, "squeeze", torch.unsqueeze, "unsqueeze", "view_as"),
    *(torch.unflatten, "unflatten"),
)
def reshape(state: Lowering, out: Dims, x: Any, *_: Any, **__: Any) -> str:
    """The shape says it all."""
    return shaped(state, value_of(state, x), out)


@function("contiguous", "clone", torch.clone, "detach")
def same(state: Lowering, out: Dims, x: Any, **_: Any) -> str:
    """Values as they are."""
    return value_of(state, x)


@function("torchvision.ops.stochastic_depth.stochastic_depth")
def stochastic_depth(
    state: Lowering, out: Dims, x: Any, p: float, mode: str, training: bool = True
) -> str:
    """Nothing in eval mode."""
    if training:
        raise Unsupported("stochastic depth in training mode")
    return value_of(state, x)


@function(torch.permute, "permute")
def permute(state: Lowering, out: Dims, x: Any, *dims: Any) -> str:
    axes = dims[0] if isinstance(dims[0], list | tuple) else dims
    value = value_of(state, x)
    rank = len(shape_of(state, value))
    order = tuple(axis_of(axis, rank) for axis in axes)
    if order == tuple(range(rank)):
        return value
    return state.builder.emit("transpose", value, axes=order)


@function(torch.transpose, "transpose", torch.swapaxes, "swapaxes")
def transpose(state: Lowering, out: Dims, x: Any, dim0: int, dim1: int) -> str:
    axes = list(range(len(out)))
    a, b = axis_of(dim0, len(out)), axis_of(dim1, len(out))
    axes[a], axes[b] = axes[b], axes[a]
    return permute(state, out, x, axes)


@function(torch.t, "t")
def matrix_transpose(state: Lowering, out: Dims, x: Any) -> str:
    return value_of(state, x) if len(out) < 2 else transpose(state, out, x, 0, 1)


@function(getattr)
def attribute(state: Lowering, out: Dims, x: Any, name: str) -> str:
    if name not in ("T", "mT") or len(out) != 2:
        raise Unsupported(f"attribute {name}")
    return transpose(state, out, x, 0, 1)


@function("expand", "expand_as", torch.broadcast_to)
def expand(state: Lowering, out: Dims, x: Any, *_: Any) -> str:
    """What is repeated along axes of size one is added to zeros."""
    value = value_of(state, x)
    if shape_of(state, value) == out:
        return value
    shape = shape_of(state, value)
    value = shaped(state, value, (1,) * (len(out) - len(shape)) + shape)
    return state.builder.emit("add", state.builder.emit("zeros", shape=out), value)


@function(torch.cat, torch.concat, torch.concatenate)
def concat(state: Lowering, out: Dims, tensors: Any, dim: int = 0) -> str:
    values = [value_of(state, x) for x in tensors]
    return _concat(state, values, axis_of(dim, len(out)))


@function(torch.stack)
def stack(state: Lowering, out: Dims, tensors: Any, dim: int = 0) -> str:
    axis = axis_of(dim, len(out))
    shape = (*out[:axis], 1, *out[axis + 1 :])
    values = [shaped(state, value_of(state, x), shape) for x in tensors]
    return _concat(state, values, axis)


def _concat(state: Lowering, values: list[str], axis: int) -> str:
    rank = len(shape_of(state, values[0]))
    if len(values) == 1:
        return values[0]
    if rank not in AXES:
        raise Unsupported(f"a feature map of rank {rank}")
    return state.builder.emit("concat", *values, axis=AXES[rank][axis])


@function(torch.flip, "flip")
def flip(state: Lowering, out: Dims, x: Any, *dims: Any) -> str:
    value = value_of(state, x)
    for dim in dims[0] if isinstance(dims[0], list | tuple) else dims:
        axis = AXES[len(out)][axis_of(dim, len(out))]
        value = state.builder.emit("flip", value, axis=axis)
    return value
