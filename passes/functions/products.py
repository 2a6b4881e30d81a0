"""Products of matrices."""

from __future__ import annotations

import operator
from typing import Any

import torch

from gos_fx.errors import Unsupported
from gos_fx.passes.functions.operands import Dims, shape_of, shaped, value_of
from gos_fx.passes.lower import Lowering, function


@function(torch.matmul, torch.bmm, torch.mm, operator.matmul, "matmul", "bmm", "mm")
def matmul(state: Lowering, out: Dims, x: Any, other: Any) -> str:
    """On the last two axes; batches are equal, or of one operand alone."""
    a, b = value_of(state, x), value_of(state, other)
    one, two = shape_of(state, a), shape_of(state, b)
    if len(one) < 2 or len(two) < 2:
        raise Unsupported("a product with a vector")
    value = state.builder.emit("matmul", _batched(state, a), _batched(state, b))
    return shaped(state, value, out)


def _batched(state: Lowering, name: str) -> str:
    """Without axes of size one in front, which torch broadcasts."""
    shape = shape_of(state, name)
    if any(size != 1 for size in shape[:-2]):
        return name
    return shaped(state, name, shape[-2:])
