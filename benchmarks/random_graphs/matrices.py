"""Linear algebra: what fits a matrix, and matrices that are well conditioned."""

from __future__ import annotations

from benchmarks.random_graphs.declared import (
    FLOAT,
    MATRIX,
    TRAINED,
    VALUE,
    drawn_attributes,
    recipe,
    sizes,
    turned,
)
from benchmarks.random_graphs.draw import Draw
from gos_fx.ir.opcode import Operand


@recipe("matmul")
def matmul(draw: Draw, opcode: str) -> str:
    a = draw.accepted(MATRIX)
    *batch, rows, columns = sizes(draw, a)
    if draw.rng.random() < 0.3:
        return draw.emit(opcode, a, turned(draw, a))
    other = draw.extent()
    if draw.rng.random() < 0.5:
        return draw.emit(opcode, a, draw.input("weight", (columns, other)))
    shape = [*(batch if draw.rng.random() < 0.3 else ()), other, rows]
    return draw.emit(opcode, draw.input("weight", shape), a)


@recipe("matvec")
def matvec(draw: Draw, opcode: str) -> str:
    if draw.rng.random() < 0.5:
        a = draw.accepted(MATRIX)
        *batch, _, columns = sizes(draw, a)
        kept = batch if draw.rng.random() < 0.5 else []
        return draw.emit(opcode, a, draw.input("weight", (*kept, columns)))
    x = draw.accepted(Operand(TRAINED, (1, 2, 3), FLOAT))
    a = draw.input("weight", (draw.extent(), sizes(draw, x)[-1]))
    return draw.emit(opcode, a, x)


@recipe("dot", "outer")
def of_vectors(draw: Draw, opcode: str) -> str:
    a = draw.accepted(Operand(TRAINED, (1, 2, 3, 4), FLOAT))
    *batch, size = sizes(draw, a)
    kept = batch if draw.rng.random() < 0.6 else []
    other = size if opcode == "dot" else draw.extent()
    b = draw.input("weight", (*kept, other))
    pair = (a, b) if draw.rng.random() < 0.5 else (b, a)
    return draw.emit(opcode, *pair)


@recipe("kron")
def kron(draw: Draw, opcode: str) -> str:
    a = draw.accepted(MATRIX)
    b = draw.input("weight", (draw.rng.randint(1, 3), draw.rng.randint(1, 3)))
    pair = (a, b) if draw.rng.random() < 0.5 else (b, a)
    return draw.emit(opcode, *pair)


@recipe("identity")
def identity(draw: Draw, opcode: str) -> str:
    return draw.emit(opcode, size=draw.extent())


@recipe("zeros")
def zeros(draw: Draw, opcode: str) -> str:
    like = draw.accepted(VALUE, lambda v: draw.types[v].rank > 0)
    found = draw.emit(opcode, shape=draw.types[like].shape)
    pair = (like, found) if draw.rng.random() < 0.5 else (found, like)
    reader = draw.rng.choice(("add", "sub", "hadamard", "max", "min"))
    more = {"axis": ""} if reader in ("max", "min") else {}
    return draw.emit(reader, *pair, **more)


def square(draw: Draw) -> str:
    """A square matrix, positive definite unless one is there that is not."""
    if draw.rng.random() < 0.3:
        return draw.accepted(MATRIX, lambda v: len({*draw.types[v].shape[-2:]}) == 1)
    a = draw.accepted(MATRIX)
    product = draw.emit("matmul", a, turned(draw, a))
    *batch, size, _ = sizes(draw, product)
    unit = draw.emit("identity", size=size)
    if batch:
        unit = draw.emit("reshape", unit, shape=(*[1] * len(batch), size, size))
    return draw.emit("add", product, unit)


@recipe("inverse", "det", "trace", "pinv", "matrix_rank")
def of_square(draw: Draw, opcode: str) -> str:
    is_any = opcode in ("pinv", "matrix_rank") and draw.rng.random() < 0.5
    return draw.emit(opcode, draw.accepted(MATRIX) if is_any else square(draw))


@recipe("cholesky")
def cholesky(draw: Draw, opcode: str) -> str:
    return draw.emit(opcode, square(draw))


@recipe("matrix_norm")
def matrix_norm(draw: Draw, opcode: str) -> str:
    return draw.emit(opcode, draw.accepted(MATRIX), **drawn_attributes(draw, opcode, 2))


@recipe("eigh")
def eigh(draw: Draw, opcode: str) -> str:
    """Eigenvalues, or v diag(w) v^T: vectors have a sign of their own."""
    both = draw.emit(opcode, square(draw))
    values = draw.emit("result", both, index=0)
    if draw.rng.random() < 0.4:
        return values
    vectors = draw.emit("result", both, index=1)
    left = _scaled(draw, vectors, values)
    return draw.reconstruct("matmul", left, turned(draw, vectors))


def _scaled(draw: Draw, vectors: str, values: str) -> str:
    """Each column times its value."""
    *batch, size = sizes(draw, values)
    row = draw.emit("reshape", values, shape=(*batch, 1, size))
    return draw.emit("hadamard", vectors, row)


@recipe("svd")
def svd(draw: Draw, opcode: str) -> str:
    """Singular values, or u diag(s) vh."""
    three = draw.emit(opcode, draw.accepted(MATRIX))
    values = draw.emit("result", three, index=1)
    if draw.rng.random() < 0.4:
        return values
    left = _scaled(draw, draw.emit("result", three, index=0), values)
    return draw.reconstruct("matmul", left, draw.emit("result", three, index=2))


@recipe("qr")
def qr(draw: Draw, opcode: str) -> str:
    """q r, or the squares of r."""
    both = draw.emit(opcode, draw.accepted(MATRIX))
    right = draw.emit("result", both, index=1)
    if draw.rng.random() < 0.4:
        return draw.reconstruct("hadamard", right, right)
    return draw.reconstruct("matmul", draw.emit("result", both, index=0), right)
