"""LU with partial pivoting: determinant and inverse.

G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed., algorithm 3.4.1.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from gos_fx.kernels.linear_algebra.code import Array, Code, real, unit_matrix, whole


def det(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """The product of the pivots, negated by each exchange of two rows."""
    found = code.number("det", real(1.0))
    with code.loop(0, a.shape[0]) as k:
        row = _pivot_row(code, a, k)
        with code.when(tirx.NE(row, k)):
            code.swap_rows(a, row, k)
            found[()] = -found[()]
        found[()] = found[()] * a[k, k]
        with code.when(tirx.NE(a[k, k], real(0.0))):
            _eliminate(code, a, k)
    return (found,)


def inverse(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """L^-1 P, then U^-1 of that from the last row upwards; a zero pivot is bad."""
    n = a.shape[0]
    x = unit_matrix(code, "inverse", n, n)
    with code.loop(0, n) as k:
        row = _pivot_row(code, a, k)
        with code.when(tirx.NE(row, k)):
            code.swap_rows(a, row, k)
            code.swap_rows(x, row, k)
        with code.when(tirx.EQ(a[k, k], real(0.0))):
            bad[()] = whole(1)
        _eliminate(code, a, k, x)
    with code.down(n) as i:
        with code.loop(i + 1, n) as k:
            _subtract(code, x, i, k, a[i, k])
        pivot = code.keep("pivot", a[i, i])
        with code.loop(0, n) as j:
            x[i, j] = x[i, j] / pivot
    return (x,)


def _pivot_row(code: Code, a: Array, k: Any) -> Any:
    """The row from ``k`` on whose number in column ``k`` is the largest."""
    best = code.number("best", tirx.abs(a[k, k]))
    row = code.number("row", k)
    with code.loop(k + 1, a.shape[0]) as i, code.when(tirx.abs(a[i, k]) > best[()]):
        best[()] = tirx.abs(a[i, k])
        row[()] = i
    return code.keep("pivot_row", row[()])


def _eliminate(code: Code, a: Array, k: Any, also: Array | None = None) -> None:
    """Zeros below the pivot, which are not written; ``also`` gets the same steps."""
    with code.loop(k + 1, a.shape[0]) as i:
        factor = code.keep("factor", a[i, k] / a[k, k])
        with code.loop(k + 1, a.shape[1]) as j:
            a[i, j] = a[i, j] - factor * a[k, j]
        if also is not None:
            _subtract(code, also, i, k, factor)


def _subtract(code: Code, x: Array, i: Any, k: Any, factor: Any) -> None:
    """Row ``i`` less ``factor`` times row ``k``."""
    kept = code.keep("times", factor)
    with code.loop(0, x.shape[1]) as j:
        x[i, j] = x[i, j] - kept * x[k, j]
