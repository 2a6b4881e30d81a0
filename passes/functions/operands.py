"""Arguments of functions as values of the template."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gos_fx.errors import Unsupported
from gos_fx.ir.dim import Dim, Expr
from gos_fx.passes.lower import Lowering, Value

Dims = tuple[Dim, ...]


def value_of(state: Lowering, argument: Any) -> str:
    """Name of a map, of a weight that is declared for it, or of a number.

    Raises:
        Unsupported: anything else.
    """
    if isinstance(argument, Value):
        return argument.name
    if isinstance(argument, Tensor):
        return state.attribute(argument)
    if isinstance(argument, bool) or not isinstance(argument, int | float):
        raise Unsupported(f"an operand that is {_kind(argument)}")
    return state.builder.emit("scalar", value=float(argument))


def shape_of(state: Lowering, name: str) -> Dims:
    return state.builder.types[name].shape


def shaped(state: Lowering, name: str, shape: Dims) -> str:
    """The value under another shape; itself where that is its own."""
    if shape_of(state, name) == shape:
        return name
    if any(isinstance(size, int) and size < 1 for size in shape):
        raise Unsupported("an empty result")
    return state.builder.emit("reshape", name, shape=shape)


def aligned(state: Lowering, *arguments: Any) -> list[str]:
    """Values that instructions broadcast as torch does: by their last axes."""
    names = [value_of(state, argument) for argument in arguments]
    rank = max(len(shape_of(state, name)) for name in names)
    return [_ranked(state, name, rank) for name in names]


def _ranked(state: Lowering, name: str, rank: int) -> str:
    shape = shape_of(state, name)
    by_channel = len(shape) == 1 and rank in (2, 3)  # whose channels are the last axis
    if len(shape) in (0, rank):
        return name
    if by_channel and state.builder.types[name].role != "map":
        return name
    return shaped(state, name, (1,) * (rank - len(shape)) + shape)


def axis_of(argument: Any, rank: int) -> int:
    """A dimension of torch as an index from the front.

    Raises:
        Unsupported: it is no number.
    """
    if isinstance(argument, bool) or not isinstance(argument, int):
        raise Unsupported(f"an axis that is {_kind(argument)}")
    return argument % rank


def _kind(argument: Any) -> str:
    if isinstance(argument, Expr):
        return f"the size {argument}"
    return f"a {type(argument).__name__}"
