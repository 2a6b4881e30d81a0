"""What is known when the graph is written: numbers, identity matrices, zeros."""

from __future__ import annotations

import math

import torch

from gos_fx.ir.opcode import OPCODES
from gos_fx.passes.canonicalise.rule import Match, rule


def fold_numbers(m: Match) -> str | None:
    """2 + 3 -> 5: an instruction of numbers alone, in double precision"""
    is_number = m.type.role == "scalar" and not (m.type.shape or m.type.is_bundle)
    if not (is_number and m.operands):
        return None
    sources = [m.source(name, "scalar") for name in m.operands]
    numbers = [source.attr("value") for source in sources if source is not None]
    if len(numbers) < len(sources):
        return None
    tensors = [torch.tensor(number, dtype=torch.float64) for number in numbers]
    value = float(OPCODES[m.opcode].reference(*tensors, **m.attributes))
    return m.emit("scalar", value=value) if math.isfinite(value) else None


@rule("matmul")
def multiply_by_identity(m: Match) -> str | None:
    """x 1 -> x, 1 x -> x for the identity matrix 1"""
    a, b = m.operands
    if m.source(b, "identity"):
        return a
    return b if m.source(a, "identity") else None


@rule("matvec")
def identity_of_vector(m: Match) -> str | None:
    """1 x -> x for the identity matrix 1"""
    return m.operands[1] if m.source(m.operands[0], "identity") else None


@rule("inverse", "pinv", "cholesky", "transpose")
def of_identity(m: Match) -> str | None:
    """inverse(1) -> 1 for the identity matrix 1, also pinv, cholesky, transpose"""
    return m.operands[0] if m.source(m.operands[0], "identity") else None


@rule("relu", "tanh", "erf", "sqrt", "reshape", "transpose", "flip", "slice")
def of_zeros(m: Match) -> str | None:
    """tanh(0) -> 0 for a value of zeros, also what moves them"""
    zeros = m.source(m.operands[0], "zeros")
    return m.emit("zeros", shape=m.type.shape) if zeros and m.type.shape else None
