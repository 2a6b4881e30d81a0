"""Cholesky: the lower triangle L with L L^T = a, of which the lower triangle is read.

G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed., section 4.2.5.
"""

from __future__ import annotations

from tvm import tirx

from gos_fx.kernels.linear_algebra.code import Array, Code, real, whole


def cholesky(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """Row by row; a pivot that is not above zero is bad."""
    n = a.shape[0]
    with code.loop(0, n) as i:
        with code.loop(0, i) as j:
            dot = code.sum("dot", 0, j, lambda k: a[i, k] * a[j, k])
            a[i, j] = (a[i, j] - dot) / a[j, j]
        dot = code.sum("square", 0, i, lambda k: a[i, k] * a[i, k])
        pivot = code.keep("pivot", a[i, i] - dot)
        with code.when(pivot <= real(0.0)):
            bad[()] = whole(1)
        a[i, i] = tirx.sqrt(pivot)
        with code.loop(i + 1, n) as j:
            a[i, j] = real(0.0)
    return (a,)
