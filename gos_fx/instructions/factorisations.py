"""Factorisations, and what is computed by one, of the matrices of the last two axes.

A bad matrix (one with a number that is not finite, a singular one to invert, one that
is not positive definite to Cholesky) has results that are not numbers. FLOPs are those
of G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed., for the direct algorithms;
compiled code takes Jacobi's for eigenvalues and singular values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.instructions.linalg import MATRICES
from gos_fx.ir.dim import Dim, combine, maximum, minimum, product
from gos_fx.ir.opcode import Operand, instruction
from gos_fx.ir.types import Type

# LAPACK, which the references call, has no half precision.
MATRIX = {"x": Operand(("map", "weight", "constant"), MATRICES, ("float32", "float64"))}
# Singular values below this part of the largest, times the larger side, are zero: one
# unit of float32, in any dtype, so that a matrix has one rank.
_EPS = 2.0**-23
# An element of a vector is large from this part of the largest on.
LARGE = 0.3


def guarded(
    x: Tensor, function: Callable[[Tensor], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Results for the matrices of ``x``; not numbers for those that are not finite,
    which LAPACK refuses."""
    is_finite = torch.isfinite(x).all(-1).all(-1)
    results = function(torch.where(_over(is_finite, x), x, 0.0))
    return tuple(torch.where(_over(is_finite, y), y, float("nan")) for y in results)


def _over(condition: Tensor, x: Tensor) -> Tensor:
    """A condition for each matrix, viewed so that it meets the elements of ``x``."""
    for _ in range(x.dim() - condition.dim()):
        condition = condition.unsqueeze(-1)
    return condition


def _signs(vectors: Tensor) -> Tensor:
    """1 or -1 for each column, [.., 1, k]: an algorithm gives either of the two.

    Elements of equal size differ by rounding, so not the largest decides but the first
    large one.
    """
    sizes = vectors.abs()
    is_large = sizes >= LARGE * sizes.amax(-2, keepdim=True)
    first = is_large.type_as(vectors).argmax(-2, keepdim=True)
    return torch.where(vectors.gather(-2, first) < 0, -1.0, 1.0).type_as(vectors)


def _sides(x: Type) -> tuple[Dim, Dim, Dim]:
    """How many matrices, their larger and their smaller side."""
    m, n = x.shape[-2:]
    return product(x.shape[:-2]), maximum(m, n), minimum(m, n)


def _square(x: Type) -> Dim:
    if x.shape[-1] != x.shape[-2]:
        raise VerifyError(f"{x} is not square")
    return x.shape[-1]


def _same(x: Type) -> tuple[Dim, ...]:
    _square(x)
    return x.shape


def _cubic(numerator: int, denominator: int) -> Callable[..., Dim]:
    """FLOPs: a multiple of the cube of the side."""

    def flops(out: Type, x: Type) -> Dim:
        n = x.shape[-1]
        work = product((numerator, n, n, n))
        return product((product(x.shape[:-2]), combine("//", work, denominator)))

    return flops


@instruction(
    category="linear algebra",
    operands=MATRIX,
    shape=_same,
    flops=_cubic(2, 1),
    opaque=True,
)
def inverse(x: Tensor, /) -> Tensor:
    """y x = 1; not a number where x is singular"""

    def solved(matrix: Tensor) -> tuple[Tensor, ...]:
        found = torch.linalg.inv_ex(matrix)
        y, info = found[0], found[1]
        return (torch.where(_over(info == 0, y), y, float("nan")),)

    return guarded(x, solved)[0]


@instruction(
    category="linear algebra",
    operands=MATRIX,
    shape=lambda x: (_square(x), x.shape[:-2])[1],
    flops=_cubic(2, 3),
    opaque=True,
    onnx="Det",
)
def det(x: Tensor, /) -> Tensor:
    """y = sum_p sign(p) prod_i x_(i, p(i)) over the permutations p, from x = l u"""
    return guarded(x, lambda matrix: (torch.linalg.det(matrix),))[0]


@instruction(
    category="linear algebra",
    operands=MATRIX,
    shape=_same,
    flops=_cubic(1, 3),
    opaque=True,
)
def cholesky(x: Tensor, /) -> Tensor:
    """l l^T = x, l lower triangular

    Of x the lower triangle is read, as that of a symmetric matrix; not a number where
    that is not positive definite.
    """

    def factor(matrix: Tensor) -> tuple[Tensor, ...]:
        low = matrix.tril()
        found = torch.linalg.cholesky_ex(low + matrix.tril(-1).transpose(-2, -1))
        y, info = found[0], found[1]
        return (torch.where(_over(info == 0, y), y, float("nan")),)

    return guarded(x, factor)[0]


def _eigh_shapes(x: Type) -> tuple[tuple[Dim, ...], ...]:
    return (*x.shape[:-2], _square(x)), x.shape


@instruction(
    category="linear algebra",
    operands=MATRIX,
    shape=_eigh_shapes,
    results=("values", "vectors"),
    flops=_cubic(9, 1),
    exact=False,
    opaque=True,
)
def eigh(x: Tensor, /) -> tuple[Tensor, ...]:
    """s v = v diag(w), s = (x + x^T) / 2, w ascending, v^T v = 1

    Of each column of v the first element of 0.3 times the largest size is positive.
    """

    def factors(matrix: Tensor) -> tuple[Tensor, ...]:
        found = torch.linalg.eigh(0.5 * matrix + 0.5 * matrix.transpose(-2, -1))
        return found[0], found[1] * _signs(found[1])

    return guarded(x, factors)


def _svd_shapes(x: Type) -> tuple[tuple[Dim, ...], ...]:
    *batch, m, n = x.shape
    k = minimum(m, n)
    return (*batch, m, k), (*batch, k), (*batch, k, n)


def _svd_flops(out: Type, x: Type) -> Dim:
    batch, m, n = _sides(x)
    return batch * (14 * m * n * n + 8 * n * n * n)


def singular_value_flops(x: Type) -> Dim:
    """Of the singular values alone."""
    batch, m, n = _sides(x)
    return batch * (4 * m * n * n - combine("//", 4 * n * n * n, 3))


@instruction(
    category="linear algebra",
    operands=MATRIX,
    shape=_svd_shapes,
    results=("u", "s", "vh"),
    flops=_svd_flops,
    exact=False,
    opaque=True,
)
def svd(x: Tensor, /) -> tuple[Tensor, ...]:
    """x = u diag(s) vh, s descending, u^T u = vh vh^T = 1

    Of each column of u the first element of 0.3 times the largest size is positive.
    """

    def factors(matrix: Tensor) -> tuple[Tensor, ...]:
        found = torch.linalg.svd(matrix, full_matrices=False)
        signs = _signs(found[0])
        return found[0] * signs, found[1], found[2] * signs.transpose(-2, -1)

    return guarded(x, factors)


def _qr_shapes(x: Type) -> tuple[tuple[Dim, ...], ...]:
    *batch, m, n = x.shape
    k = minimum(m, n)
    return (*batch, m, k), (*batch, k, n)


def _qr_flops(out: Type, x: Type) -> Dim:
    batch, m, n = _sides(x)
    return batch * (4 * m * n * n - combine("//", 4 * n * n * n, 3))


@instruction(
    category="linear algebra",
    operands=MATRIX,
    shape=_qr_shapes,
    results=("q", "r"),
    flops=_qr_flops,
    opaque=True,
)
def qr(x: Tensor, /) -> tuple[Tensor, ...]:
    """x = q r, q^T q = 1, r upper triangular

    By Householder's reflections: r_kk has the sign that -x_kk has, after the
    reflections before, where there is something below it.
    """

    def factors(matrix: Tensor) -> tuple[Tensor, ...]:
        found = torch.linalg.qr(matrix)
        return found[0], found[1]

    return guarded(x, factors)


def _rtol(x: Tensor) -> float:
    return max(x.shape[-2], x.shape[-1]) * _EPS


@instruction(
    category="linear algebra",
    operands=MATRIX,
    shape=lambda x: (*x.shape[:-2], x.shape[-1], x.shape[-2]),
    flops=lambda out, x: _svd_flops(out, x) + 2 * x.elements * minimum(*x.shape[-2:]),
    exact=False,
    opaque=True,
)
def pinv(x: Tensor, /) -> Tensor:
    """y = v diag(1 / s) u^T over the s > s_max max(m, n) 2^-23 of x = u diag(s) v^T"""
    return guarded(x, lambda m: (torch.linalg.pinv(m, rtol=_rtol(m)),))[0]


@instruction(
    category="linear algebra",
    operands=MATRIX,
    shape=lambda x: x.shape[:-2],
    flops=lambda out, x: singular_value_flops(x),
    exact=False,
    differentiable=False,
    opaque=True,
)
def matrix_rank(x: Tensor, /) -> Tensor:
    """y = how many singular values are above s_max max(m, n) 2^-23; no gradient"""

    def rank(matrix: Tensor) -> tuple[Tensor, ...]:
        found = torch.linalg.matrix_rank(matrix, rtol=_rtol(matrix))
        return (found.type_as(matrix),)

    return guarded(x, rank)[0]
