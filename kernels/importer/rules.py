"""The table of ATen operators that become instructions, and what all rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor

from gos_fx.ir.types import AXES, channel_axis
from gos_fx.kernels.importer.builder import Builder, Operand, Value
from gos_fx.registry import Registry

# A rule gets the builder, the shape of the result (of each, where there are several)
# and the arguments of the call, maps as values and constants as tensors. It gives the
# result, a tuple where there are several, or None: then the call stays TVM's.
Rule = Callable[..., Any]
ATEN: Registry[Rule] = Registry("ATen rule")
Shape = tuple[int, ...]
T = TypeVar("T", bound=Rule)


def aten(*names: str) -> Callable[[T], T]:
    """Register the decorated rule for operators as ``add.Tensor``."""

    def declare(rule: T) -> T:
        for name in names:
            ATEN.register(f"aten.{name}", rule)
        return rule

    return declare


def axis_name(rank: int, axis: int) -> str:
    """What instructions call an axis; ``axis`` may count from the end."""
    return AXES[rank][axis % rank]


def reshaped(b: Builder, x: Operand, shape: Sequence[int]) -> Operand:
    """The same elements under another shape."""
    shape = tuple(shape)
    if tuple(x.shape) == shape:
        return x
    if isinstance(x, Tensor):
        return x.reshape(shape)
    return b.emit("reshape", x, out=shape, shape=shape)


def scalar(x: Any) -> float | None:
    """The number that an argument is, or that a constant holds."""
    if isinstance(x, Tensor) and x.numel() == 1 and x.dim() == 0:
        return float(x)
    is_number = isinstance(x, int | float) and not isinstance(x, bool)
    return float(x) if is_number else None


def elementwise(
    b: Builder, out: Shape, opcode: str, *operands: Any, **attributes: Any
) -> Value | None:
    """An instruction on the elements, its operands broadcast as torch does it."""
    aligned = []
    for operand in operands:
        number = scalar(operand)
        if number is not None:
            operand = torch.full((1,) * len(out), number)
        if isinstance(operand, Tensor) and operand.dtype != torch.float32:
            return None
        aligned.append(_aligned(b, operand, out))
    return b.emit(opcode, *aligned, out=out, **attributes)


def _aligned(b: Builder, x: Operand, out: Shape) -> Operand:
    """An operand with the rank of the result, or a vector along the channels."""
    rank = len(out)
    shape = (1,) * (rank - len(x.shape)) + tuple(x.shape)
    if isinstance(x, Tensor) and rank in AXES:
        axis = channel_axis(rank)
        if prod(shape) == shape[axis] == out[axis] and shape[axis] > 1:
            return x.reshape(-1)
    return reshaped(b, x, shape)
