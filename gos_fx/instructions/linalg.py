"""Linear algebra on the last two axes, batched over the others."""

from __future__ import annotations

import torch
from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.ir.dim import Dim, product
from gos_fx.ir.opcode import instruction
from gos_fx.ir.types import Type


def _matmul_shape(a: Type, b: Type) -> tuple[Dim, ...]:
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
        raise VerifyError(f"{a} and {b} cannot be multiplied")
    batch_a, batch_b = a.shape[:-2], b.shape[:-2]
    if batch_a and batch_b and batch_a != batch_b:
        raise VerifyError(f"the batches of {a} and {b} differ")
    return (*(batch_a or batch_b), a.shape[-2], b.shape[-1])


@instruction(
    category="linear algebra",
    shape=_matmul_shape,
    flops=lambda out, a, b: product((2, a.shape[-1], out.elements)),
)
def matmul(a: Tensor, b: Tensor, /) -> Tensor:
    """c_ij = sum_k a_ik b_kj"""
    return torch.matmul(a, b)
