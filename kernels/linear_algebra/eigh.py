"""Eigenvalues and vectors of the symmetric part, by the cyclic Jacobi method.

G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed., section 8.5.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from gos_fx.kernels.linear_algebra.code import (
    EPS,
    Array,
    Code,
    real,
    unit_matrix,
    whole,
)
from gos_fx.kernels.linear_algebra.jacobi import (
    sine_and_tau,
    sweeps,
    tangent,
    turn_rows,
)
from gos_fx.kernels.linear_algebra.scaling import normalise
from gos_fx.kernels.linear_algebra.signs import first_sign

# Of a matrix with a largest number around one: nothing that a sum would notice.
_NOTHING = 1e-30


def eigh(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """Eigenvalues [n], ascending, and vectors [n, n], one in each column."""
    n = a.shape[0]
    scale = normalise(code, a)
    with code.loop(0, n) as i, code.loop(0, i) as j:
        half = code.keep("half", real(0.5) * (a[i, j] + a[j, i]))
        a[i, j] = half
        a[j, i] = half
    rows = unit_matrix(code, "rows", n, n)

    def pair(p: Any, q: Any, turned: Array) -> None:
        off = code.keep("off", a[p, q])
        size = tirx.sqrt(tirx.abs(a[p, p])) * tirx.sqrt(tirx.abs(a[q, q]))
        with code.when(tirx.abs(off) > real(0.5 * EPS) * size + real(_NOTHING)):
            turned[()] = whole(1)
            _turn(code, a, rows, p, q)

    sweeps(code, n, bad, pair)
    _sort(code, a, rows)
    values = code.array("values", n)
    vectors = code.array("vectors", n, n)
    with code.loop(0, n) as j:
        values[j] = a[j, j] * scale
        side = first_sign(code, n, lambda i: rows[j, i])
        with code.loop(0, n) as i:
            vectors[i, j] = rows[j, i] * side
    return (values, vectors)


def _turn(code: Code, a: Array, rows: Array, p: Any, q: Any) -> None:
    """The rotation on both sides that makes a[p, q] zero."""
    t = tangent(code, a[p, p], a[q, q], a[p, q])
    s, tau = sine_and_tau(code, t)
    step = code.keep("shift", t * a[p, q])
    low, high = code.keep("low", a[p, p] - step), code.keep("high", a[q, q] + step)
    turn_rows(code, a, p, q, s, tau)
    with code.loop(0, a.shape[0]) as j:
        a[j, p] = a[p, j]
        a[j, q] = a[q, j]
    a[p, p] = low
    a[q, q] = high
    a[p, q] = real(0.0)
    a[q, p] = real(0.0)
    turn_rows(code, rows, p, q, s, tau)


def _sort(code: Code, a: Array, rows: Array) -> None:
    """The diagonal ascending, rows with it."""
    n = a.shape[0]
    with code.loop(0, n) as i:
        least = code.number("least", i)
        with code.loop(i + 1, n) as j, code.when(a[j, j] < a[least[()], least[()]]):
            least[()] = j
        at = code.keep("at", least[()])
        with code.when(tirx.NE(at, i)):
            kept = code.keep("kept", a[i, i])
            a[i, i] = a[at, at]
            a[at, at] = kept
            code.swap_rows(rows, i, at)
