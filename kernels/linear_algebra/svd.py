"""Singular values by one-sided Jacobi rotations, and what is made of them.

The rotations make the columns of ``a`` orthogonal; their norms are the singular values
(J. Demmel, K. Veselic, Jacobi's method is more accurate than QR, SIAM J. Matrix Anal.
Appl. 13, 1992). Columns are exchanged so that the longer one comes first (P. P. M. de
Rijk, 1989), which saves sweeps. Reflections of the columns make the vectors on the
other side: they are orthogonal also where a column is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

from tvm import tirx

from gos_fx.kernels.linear_algebra.code import (
    EPS,
    Array,
    Code,
    real,
    sign,
    unit_matrix,
    whole,
)
from gos_fx.kernels.linear_algebra.householder import orthogonal, reflect
from gos_fx.kernels.linear_algebra.jacobi import (
    sine_and_tau,
    sweeps,
    tangent,
    turn_rows,
)
from gos_fx.kernels.linear_algebra.scaling import normalise
from gos_fx.kernels.linear_algebra.signs import first_sign


def svd(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """u [m, k], s [k] descending, vh [k, n] with k = min(m, n)."""
    m, n = a.shape
    k = min(m, n)
    long, s, short = _vectors(code, a, bad)
    left = code.array("left", m, k)
    right = code.array("right", k, n)
    with code.cells(left) as (i, j):
        left[i, j] = long[i, j] if m >= n else short[j, i]
    with code.cells(right) as (i, j):
        right[i, j] = short[i, j] if m >= n else long[j, i]
    with code.loop(0, k) as j:
        side = first_sign(code, m, lambda i: left[i, j])
        with code.loop(0, m) as i:
            left[i, j] = left[i, j] * side
        with code.loop(0, n) as i:
            right[j, i] = right[j, i] * side
    return (left, s, right)


def pinv(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """vh^T / s u^T over the singular values that :func:`matrix_rank` counts."""
    m, n = a.shape
    u, s, vh = svd(code, a, bad)
    x = code.array("pinv", n, m)
    least = _least(code, s, a)
    with code.cells(x) as at:
        x[at] = real(0.0)
    with code.loop(0, min(m, n)) as k, code.when(s[k] > least), code.loop(0, n) as i:
        factor = code.keep("factor", vh[k, i] / s[k])
        with code.loop(0, m) as j:
            x[i, j] = x[i, j] + factor * u[j, k]
    return (x,)


def matrix_rank(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """Number of singular values above max(m, n) eps times the largest."""
    s = _values(code, a, bad)
    least = _least(code, s, a)

    def one(i: Any) -> Any:
        return tirx.Select(s[i] > least, real(1.0), real(0.0))

    return (code.number("rank", code.sum("count", 0, s.shape[0], one)),)


def norm_2(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """The largest singular value."""
    s = _values(code, a, bad)
    return (code.number("norm", s[0]),)


def norm_nuclear(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """The sum of the singular values."""
    s = _values(code, a, bad)
    total = code.sum("total", 0, s.shape[0], lambda i: s[i])
    return (code.number("norm", total),)


def _least(code: Code, s: Array, a: Array) -> Any:
    return code.keep("least", real(max(a.shape) * EPS) * s[0])


@dataclass(frozen=True)
class _Columns:
    """The columns of a matrix with no fewer rows, orthogonal and of falling norm.

    Attributes:
        rows: the columns, one in each row.
        norms: of them.
        scale: that they are divided by.
    """

    rows: Array
    norms: Array
    scale: Any


def _columns(code: Code, a: Array, bad: Array, turns: Array | None) -> _Columns:
    """Of ``a`` or, where that has more columns than rows, its transpose; ``turns`` gets
    the same rotations."""
    m, n = max(a.shape), min(a.shape)
    scale = normalise(code, a)
    rows = code.array("columns", n, m)
    with code.cells(rows) as (i, j):
        rows[i, j] = a[j, i] if a.shape[0] == m else a[i, j]
    both = [rows] if turns is None else [rows, turns]
    # What the rounding of the sum of a product leaves of zero.
    nothing = real(EPS * max(1.0, sqrt(m) / 2))

    def square(i: Any) -> Any:
        return code.sum("square", 0, m, lambda j: rows[i, j] * rows[i, j])

    def pair(p: Any, q: Any, turned: Array) -> None:
        first, second = square(p), square(q)
        dot = code.sum("dot", 0, m, lambda j: rows[p, j] * rows[q, j])
        size = tirx.sqrt(first) * tirx.sqrt(second)
        is_off = code.keep("off", tirx.abs(dot) > nothing * size)
        with code.when(first < second):
            for x in both:
                code.swap_rows(x, p, q)
        with code.when(is_off):
            turned[()] = whole(1)
            low = tirx.max(first, second)
            high = tirx.min(first, second)
            s, tau = sine_and_tau(code, tangent(code, low, high, dot))
            for x in both:
                turn_rows(code, x, p, q, s, tau)

    sweeps(code, n, bad, pair)
    norms = code.array("norms", n)
    with code.loop(0, n) as i:
        norms[i] = tirx.sqrt(square(i))
    _sort(code, norms, both)
    return _Columns(rows, norms, scale)


def _sort(code: Code, norms: Array, both: list[Array]) -> None:
    n = norms.shape[0]
    with code.loop(0, n) as i:
        largest = code.number("largest", i)
        with code.loop(i + 1, n) as j, code.when(norms[j] > norms[largest[()]]):
            largest[()] = j
        at = code.keep("at", largest[()])
        with code.when(tirx.NE(at, i)):
            kept = code.keep("kept", norms[i])
            norms[i] = norms[at]
            norms[at] = kept
            for x in both:
                code.swap_rows(x, i, at)


def _values(code: Code, a: Array, bad: Array) -> Array:
    """Singular values, descending."""
    found = _columns(code, a, bad, None)
    s = code.array("s", min(a.shape))
    with code.loop(0, min(a.shape)) as i:
        s[i] = found.norms[i] * found.scale
    return s


def _vectors(code: Code, a: Array, bad: Array) -> tuple[Array, Array, Array]:
    """Vectors of the longer side in columns, singular values, those of the other in
    rows."""
    m, n = max(a.shape), min(a.shape)
    short = unit_matrix(code, "turns", n, n)
    found = _columns(code, a, bad, short)
    upright = code.array("upright", m, n)
    with code.cells(upright) as (i, j):
        upright[i, j] = found.rows[j, i]
    long = orthogonal(code, upright, reflect(code, upright))
    s = code.array("s", n)
    with code.loop(0, n) as k:
        s[k] = found.norms[k] * found.scale
        side = code.keep("side", sign(upright[k, k]))
        with code.loop(0, m) as i:
            long[i, k] = long[i, k] * side
    return long, s, short
