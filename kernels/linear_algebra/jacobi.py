"""Rotations that make a pair of numbers zero, and sweeps of them until nothing is left.

The angle is that of H. Rutishauser, The Jacobi method for real symmetric matrices,
Numerische Mathematik 9 (1966): the smaller of the two, so that the sweeps converge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from gos_fx.kernels.linear_algebra.code import Array, Code, real, sign, whole

# Convergence is quadratic: five to ten sweeps in single precision.
_MOST_SWEEPS = 30
Pair = Callable[[Any, Any, Array], None]


def sweeps(code: Code, extent: int, bad: Array, pair: Pair) -> None:
    """``pair(p, q, turned)`` for all p < q, again until a sweep has turned nothing.

    Args:
        bad: a flag; a matrix that is bad is left alone.
        pair: sets ``turned[()]`` to 1 where there was something to do.
    """
    turned = code.number("turned", whole(1) - bad[()])
    with code.loop(0, _MOST_SWEEPS), code.when(turned[()] > 0):
        turned[()] = whole(0)
        with code.loop(0, extent - 1) as p, code.loop(p + 1, extent) as q:
            pair(p, q, turned)


def tangent(code: Code, low: Any, high: Any, between: Any) -> Any:
    """tan of the angle that diagonalises [[low, between], [between, high]]."""
    ratio = code.keep("ratio", (high - low) / (between + between))
    root = tirx.sqrt(real(1.0) + ratio * ratio)
    # 1 / (|ratio| + root) where the square would overflow
    return code.keep(
        "tangent",
        tirx.Select(
            tirx.abs(ratio) > real(1e15),
            real(0.5) / ratio,
            sign(ratio) / (tirx.abs(ratio) + root),
        ),
    )


def turn_rows(code: Code, a: Array, p: Any, q: Any, s: Any, tau: Any) -> None:
    """Rows (p, q) times the rotation of sine ``s``, tau = s / (1 + cosine)."""
    with code.loop(0, a.shape[1]) as j:
        x, y = code.keep("x", a[p, j]), code.keep("y", a[q, j])
        a[p, j] = x - s * (y + tau * x)
        a[q, j] = y + s * (x - tau * y)


def sine_and_tau(code: Code, t: Any) -> tuple[Any, Any]:
    """Of a tangent: sine, and sine / (1 + cosine)."""
    c = code.keep("cosine", real(1.0) / tirx.sqrt(real(1.0) + t * t))
    s = code.keep("sine", t * c)
    return s, code.keep("half", s / (real(1.0) + c))
