"""Linear algebra that is plain loops, for TVM: one function each, same name.

Matrices are the last two axes, vectors the last one; the axes before them are a batch,
which one operand may lack.
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx
from tvm.te import Tensor

from gos_fx.ir.types import axis_index
from gos_fx.kernels.te_instructions import along, instruction, shape_of


def _batch(a: Tensor, rank: int, b: Tensor, other: int) -> tuple[int, ...]:
    """The axes before the last ``rank`` of ``a`` and the last ``other`` of ``b``."""
    first, second = (
        shape_of(x)[: len(x.shape) - r] for x, r in ((a, rank), (b, other))
    )
    if len(first) != len(second):
        return max(first, second, key=len)
    return tuple(map(max, first, second))


def _read(x: Tensor, batch: tuple[Any, ...], *rest: Any) -> Any:
    sizes = shape_of(x)[: len(x.shape) - len(rest)]
    own = batch[len(batch) - len(sizes) :]
    return x(*(0 if n == 1 else i for i, n in zip(own, sizes)), *rest)


@instruction
def matvec(a: Tensor, x: Tensor, *, name: str) -> Tensor:
    *_, rows, columns = shape_of(a)
    k = te.reduce_axis((0, columns), name="ci")
    return te.compute(
        (*_batch(a, 2, x, 1), rows),
        lambda *i: te.sum(_read(a, i[:-1], i[-1], k) * _read(x, i[:-1], k), axis=[k]),
        name=name,
    )


@instruction
def dot(a: Tensor, b: Tensor, *, name: str) -> Tensor:
    k = te.reduce_axis((0, shape_of(a)[-1]), name="ci")
    return te.compute(
        _batch(a, 1, b, 1),
        lambda *i: te.sum(_read(a, i, k) * _read(b, i, k), axis=[k]),
        name=name,
    )


@instruction
def trace(a: Tensor, *, name: str) -> Tensor:
    *batch, size, _ = shape_of(a)
    k = te.reduce_axis((0, size), name="ci")
    return te.compute(batch, lambda *i: te.sum(a(*i, k, k), axis=[k]), name=name)


@instruction
def outer(a: Tensor, b: Tensor, *, name: str) -> Tensor:
    return te.compute(
        (*_batch(a, 1, b, 1), shape_of(a)[-1], shape_of(b)[-1]),
        lambda *i: _read(a, i[:-2], i[-2]) * _read(b, i[:-2], i[-1]),
        name=name,
    )


@instruction
def kron(a: Tensor, b: Tensor, *, name: str) -> Tensor:
    m, n = shape_of(a)[-2:]
    p, q = shape_of(b)[-2:]

    def element(*i: Any) -> Any:
        *batch, row, column = i
        left = _read(a, tuple(batch), row // p, column // q)
        return left * _read(b, tuple(batch), row % p, column % q)

    return te.compute((*_batch(a, 2, b, 2), m * p, n * q), element, name=name)


# Of numbers that are not negative; not a number where one is none.
_LARGEST = te.comm_reducer(
    lambda a, b: tirx.Select(tirx.any(a > b, tirx.isnan(a)), a, b),
    lambda dtype: tirx.const(0.0, dtype),
    name="largest",
)


def _absolute(x: Tensor, name: str) -> Tensor:
    return te.compute(shape_of(x), lambda *i: tirx.abs(x(*i)), name=name)


def _root(x: Tensor, name: str) -> Tensor:
    return te.compute(shape_of(x), lambda *i: tirx.sqrt(x(*i)), name=name)


def _squares(x: Tensor, name: str) -> Tensor:
    return te.compute(shape_of(x), lambda *i: x(*i) * x(*i), name=name)


@instruction
def vector_norm(
    x: Tensor, *, ord: str, axis: str, keep: bool = False, name: str
) -> Tensor:
    at = axis_index(axis, len(x.shape))
    if ord == "2":
        total = along(_squares(x, f"{name}_each"), at, te.sum, f"{name}_sum", keep)
        return _root(total, name)
    combine = {"1": te.sum, "inf": _LARGEST}[ord]
    return along(_absolute(x, f"{name}_each"), at, combine, name, keep)


@instruction
def matrix_norm(a: Tensor, *, ord: str, name: str) -> Tensor:
    """The largest sum of a column ("1") or row ("inf"); others are factorisations"""
    over = {"1": -2, "inf": -1}[ord]
    at = len(a.shape) + over
    sums = along(_absolute(a, f"{name}_each"), at, te.sum, f"{name}_sum")
    return along(sums, len(sums.shape) - 1, _LARGEST, name)


@instruction
def frobenius_norm(a: Tensor, *, name: str) -> Tensor:
    *batch, rows, columns = shape_of(a)
    j = te.reduce_axis((0, rows), name="ci")
    k = te.reduce_axis((0, columns), name="kw")
    total = te.compute(
        batch,
        lambda *i: te.sum(a(*i, j, k) * a(*i, j, k), axis=[j, k]),
        name=f"{name}_sum",
    )
    return _root(total, name)


@instruction
def identity(*, size: int, name: str) -> Tensor:
    one, zero = (tirx.const(value, "float32") for value in (1.0, 0.0))
    return te.compute(
        (size, size),
        lambda i, j: tirx.Select(tirx.EQ(i, j), one, zero),
        name=name,
    )


@instruction
def zeros(*, shape: tuple[int, ...], name: str) -> Tensor:
    return te.compute(shape, lambda *_: tirx.const(0.0, "float32"), name=name)


@instruction
def scalar(*, value: float, name: str) -> Tensor:
    return te.compute((), lambda: tirx.const(value, "float32"), name=name)
