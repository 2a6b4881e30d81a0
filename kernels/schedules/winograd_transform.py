"""The one-dimensional transforms of Winograd's convolutions, as expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from tvm import tirx

from gos_fx.kernels.schedules.loops import bound
from gos_fx.kernels.winograd_form import Form

# Gives a name to a value that is used more than once.
Keep = Callable[[Any], Any]


def keeper(found: list[Any]) -> Keep:
    """Has the values computed in the statements ``found``."""
    return lambda value: bound(found, "v", value)


def input_transform(form: Form, values: Sequence[Any], keep: Keep) -> list[Any]:
    """``B d``: for each point, the inputs' polynomial without that point's factor."""
    even, odd = values[0::2], values[1::2]
    found = [keep(_weighted(form.whole, even))]
    for i, point in enumerate(form.pairs):
        rest = form.without(i)
        a = keep(_weighted(rest, even[1:]))
        b = keep(_times(point, _weighted(rest, odd)))
        found += [keep(a + b), keep(a - b)]
    return [*found, keep(_weighted(form.whole, odd))]


def output_transform(form: Form, values: Sequence[Any], keep: Keep) -> list[Any]:
    """``A m``: the values at the points times the powers of the points."""
    pairs = list(zip(values[1:-1:2], values[2:-1:2]))
    sums = [keep(a + b) for a, b in pairs]
    differences = [keep(a - b) for a, b in pairs]
    found = []
    for power in range(form.outputs):
        terms = differences if power % 2 else sums
        scales = [point**power for point in form.pairs]
        start = []
        if power == 0:
            start = [values[0]]
        elif power == form.outputs - 1:
            start = [values[-1]]
        found.append(keep(_weighted(scales, terms, start)))
    return found


def _weighted(
    scales: Sequence[Fraction], values: Sequence[Any], start: Sequence[Any] = ()
) -> Any:
    """The sum of ``start`` and of the values times their scales, the last one first."""
    total = start[0] if start else None
    for scale, value in reversed(list(zip(scales, values))):
        term = _times(scale, value)
        total = term if total is None else total + term
    return total


def _times(scale: Fraction, value: Any) -> Any:
    if scale == 1:
        return value
    return value * tirx.const(float(scale), "float32")
