"""Floating-point operations of an instruction, those of the code generator included."""

from __future__ import annotations

from collections.abc import Sequence

from gos_fx.ir.graph import Node
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.types import Type

# What numbers that are known make of instructions (gos_fx/ir/immediates.py), for each
# element: the product and the sum of affine, a comparison with each bound of clip.
_IMMEDIATE = {"affine": 2, "clip": 2, "reciprocal": 1}


def flops_of(node: Node, operands: Sequence[Type]) -> float:
    """Of a concrete node.

    Raises:
        KeyError: an opcode of the code generator that concrete graphs never have.
    """
    declaration = OPCODES.find(node.opcode)
    if declaration is None:
        return float(_IMMEDIATE[node.opcode] * _concrete(node.type.elements))
    return float(_concrete(declaration.flops(node.type, *operands, **node.attrs)))


def _concrete(dim: object) -> int:
    assert isinstance(dim, int), f"{dim} has symbols"
    return dim
