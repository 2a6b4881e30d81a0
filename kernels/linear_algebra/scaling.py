"""Matrices brought to numbers around one, so that squares neither overflow nor vanish.

The factor is a power of two: nothing is rounded on the way there or back.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from gos_fx.kernels.linear_algebra.code import Array, Code, real, whole

_EXPONENT, _SMALLEST = 0x7F800000, 0x00800000


def is_bad(code: Code, a: Array) -> Array:
    """A flag that is 1 where a matrix has a number that is not finite."""
    bad = code.number("bad", whole(0))
    with code.cells(a) as at, code.when(tirx.Not(tirx.isfinite(a[at]))):
        bad[()] = whole(1)
    return bad


def normalise(code: Code, a: Array) -> Any:
    """Divide ``a`` by the power of two below its largest number, which is returned."""
    largest = code.number("largest", real(0.0))
    with code.cells(a) as at:
        largest[()] = tirx.max(largest[()], tirx.abs(a[at]))
    scale = power_below(code, largest[()])
    with code.cells(a) as at:
        a[at] = a[at] / scale
    return scale


def power_below(code: Code, value: Any) -> Any:
    """The largest power of two that is not above a positive number; the smallest
    normal one for what is below that."""
    bits = tirx.reinterpret("int32", value) & whole(_EXPONENT)
    power = tirx.max(bits, whole(_SMALLEST))
    return code.keep("power", tirx.reinterpret("float32", power))
