"""Tile and unroll: identities that steer the generated code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.ir.dim import Dim, Expr
from gos_fx.ir.opcode import instruction
from gos_fx.ir.types import Type

LOOPS = ("n", "t", "co", "ho", "wo", "ci", "kh", "kw")


def _shape(x: Type, /, **loops: Dim) -> tuple[Dim, ...]:
    if not loops:
        raise VerifyError("names no loop")
    for loop, size in loops.items():
        if loop not in LOOPS:
            raise VerifyError(f"there is no loop {loop}", do=f"use {', '.join(LOOPS)}")
        if not isinstance(size, int | Expr) or isinstance(size, bool):
            raise VerifyError(f"{loop}={size!r} is not a size")
        if isinstance(size, int) and size < 1:
            raise VerifyError(f"{loop}={size} is below one")
    return x.shape


def _free(out: Type, *types: Type, **_: Any) -> Dim:
    return 0


def _same(b: Any, operands: Sequence[str], *_: Any) -> str:
    """A schedule is for our own code generator: in ONNX it is nothing."""
    return operands[0]


@instruction(category="schedule", shape=_shape, flops=_free, schedule=True, onnx=_same)
def tile(x: Tensor, /, **sizes: int) -> Tensor:
    """y = x; each named loop gets an inner loop of the given size, kept in registers"""
    return x


@instruction(category="schedule", shape=_shape, flops=_free, schedule=True, onnx=_same)
def unroll(x: Tensor, /, **factors: int) -> Tensor:
    """y = x; the body of each named loop is repeated ``factor`` times in the code"""
    return x
