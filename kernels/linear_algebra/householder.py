"""QR by Householder reflections, with the signs of LAPACK's ``geqrf``.

A reflection is 1 - tau v v^T with v_k = 1; R has the sign that adds up in v, and where
nothing is below the diagonal there is no reflection.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from gos_fx.kernels.linear_algebra.code import Array, Code, real, sign, unit_matrix
from gos_fx.kernels.linear_algebra.scaling import normalise, power_below


def qr(code: Code, a: Array, bad: Array) -> tuple[Array, ...]:
    """q [m, k] and r [k, n], k = min(m, n)."""
    m, n = a.shape
    scale = normalise(code, a)
    taus = reflect(code, a)
    q = orthogonal(code, a, taus)
    r = code.array("r", min(m, n), n)
    with code.cells(r) as (i, j):
        r[i, j] = tirx.Select(j >= i, a[i, j] * scale, real(0.0))
    return (q, r)


def reflect(code: Code, a: Array) -> Array:
    """R in the upper triangle of ``a`` and the vectors v below it; the taus."""
    m, n = a.shape
    taus = code.array("taus", min(m, n))
    with code.loop(0, min(m, n)) as k:
        below = code.number("below", real(0.0))
        with code.loop(k + 1, m) as i:
            below[()] = tirx.max(below[()], tirx.abs(a[i, k]))
        taus[k] = real(0.0)
        with code.when(below[()] > real(0.0)):
            # squares of numbers that are not around one would vanish
            scale = power_below(code, tirx.max(below[()], tirx.abs(a[k, k])))
            with code.loop(k, m) as i:
                a[i, k] = a[i, k] / scale
            head = code.keep("head", a[k, k])
            total = code.sum("total", k, m, lambda i: a[i, k] * a[i, k])
            beta = code.keep("beta", -sign(head) * tirx.sqrt(total))
            taus[k] = (beta - head) / beta
            with code.loop(k + 1, m) as i:
                a[i, k] = a[i, k] / (head - beta)
            _apply(code, a, k, taus[k], a, k + 1)
            a[k, k] = beta * scale
    return taus


def orthogonal(code: Code, a: Array, taus: Array) -> Array:
    """The first min(m, n) columns of Q: reflections of those of the unit matrix."""
    m, count = a.shape[0], min(a.shape)
    q = unit_matrix(code, "q", m, count)
    with code.down(count) as k:
        _apply(code, a, k, taus[k], q, k)
    return q


def _apply(code: Code, a: Array, k: Any, tau: Any, to: Array, begin: Any) -> None:
    """The reflection of column ``k`` of ``a`` to the columns from ``begin`` on."""
    m = a.shape[0]
    kept = code.keep("tau", tau)
    with code.loop(begin, to.shape[1]) as j:
        rest = code.sum("rest", k + 1, m, lambda i: a[i, k] * to[i, j])
        step = code.keep("step", kept * (to[k, j] + rest))
        to[k, j] = to[k, j] - step
        with code.loop(k + 1, m) as i:
            to[i, j] = to[i, j] - step * a[i, k]
