"""exp, sigmoid, tanh and erf as arithmetic, which LLVM vectorises, unlike libm's.

The polynomials are those of Cephes' ``expf`` (S. L. Moshier, 2 ulp) and of Eigen's
``ptanh`` (rational of degree 13 over 6, 3 ulp) and ``generic_fast_erf`` (13 over 8, off
by less than 5e-7). They are for float32 only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from gos_fx.kernels.extremes import maximum, minimum

_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# e^x is a normal number between these.
_SMALLEST, _LARGEST = -87.33654475, 88.72283905
_EXP = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
_TANH_SATURATES = 7.90531110763549805
_TANH_ODD = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_EVEN = (
    1.19825839466702e-06,
    1.18534705686654e-04,
    2.26843463243900e-03,
    4.89352518554385e-03,
)
# erf(4) is 1 in float32.
_ERF_SATURATES = 4.0
_ERF_ODD = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_EVEN = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _const(value: float) -> Any:
    return tirx.const(value, "float32")


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    result = _const(coefficients[0])
    for c in coefficients[1:]:
        result = result * x + _const(c)
    return result


def once(value: Any, body: Callable[[Any], Any]) -> Any:
    """``body`` of a value that is computed once, however often ``body`` reads it."""
    variable = tirx.Var("once", "float32")
    return tirx.Let(variable, value, body(variable))


def exp(x: Any) -> Any:
    """e^x = 2^n e^r with n = round(x / ln 2); infinite where float32 ends."""

    def whole(x: Any) -> Any:
        inside = maximum(_const(_SMALLEST), minimum(_const(_LARGEST), x))
        return once(inside, lambda inside: split(x, inside))

    def split(x: Any, inside: Any) -> Any:
        n = tirx.floor(inside * _const(_LOG2_E) + _const(0.5))
        return once(n, lambda n: scaled(x, inside, n))

    def scaled(x: Any, inside: Any, n: Any) -> Any:
        rest = inside - n * _const(_LN2_HIGH) - n * _const(_LN2_LOW)
        power = once(rest, lambda r: _polynomial(_EXP, r) * r * r + r + _const(1.0))
        # 2^n as 2^(n - 1) times 2: n = 128 has no exponent of its own.
        exponent = (tirx.Cast("int32", n) + tirx.const(126, "int32")) << 23
        result = power * tirx.reinterpret("float32", exponent) * _const(2.0)
        infinite = tirx.const(float("inf"), "float32")
        return tirx.Select(x > _const(_LARGEST), infinite, result)

    return once(x, whole)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)"""
    one = _const(1.0)
    return one / (one + exp(-x))


def tanh(x: Any) -> Any:
    """x P(x^2) / Q(x^2)"""
    return _rational(x, _TANH_SATURATES, _TANH_ODD, _TANH_EVEN)


def erf(x: Any) -> Any:
    """x P(x^2) / Q(x^2)"""
    return _rational(x, _ERF_SATURATES, _ERF_ODD, _ERF_EVEN)


def _rational(
    x: Any, saturates: float, odd: tuple[float, ...], even: tuple[float, ...]
) -> Any:
    def of(inside: Any) -> Any:
        return once(
            inside * inside,
            lambda s: inside * _polynomial(odd, s) / _polynomial(even, s),
        )

    above = minimum(_const(saturates), x)
    return once(maximum(_const(-saturates), above), of)
