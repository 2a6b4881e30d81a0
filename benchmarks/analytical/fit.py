"""Fit of the analytical model's constants to the emulator's counts.

    python -m benchmarks.analytical.fit [--write] [--leave-out]

fits on the operators that are not held out (``errors.is_held_out``), one thread on the
Cortex-A53, and prints what it says of the others. ``--write`` puts the constants into
``gos_fx/latency/constants.py``; ``--leave-out`` fits once without each
family; ``--out-of-order`` fits what out-of-order cores differ by.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

import gos_fx.latency.constants as module
from benchmarks.analytical.errors import errors, measured, predict
from benchmarks.analytical.kernels import Measured
from gos_fx.latency.constants import FITTED, OUT_OF_ORDER, Constants

TARGET = "arm_a53"
_LINES = ("cache_from", "cache_to", "kernel_lines")
# Set by hand, or measured on the fit itself.
_OTHERS = (
    "workspace",
    "crowded",
    "runtime_cycles",
    "runtime_lines",
    "error",
    "noise",
    "call",
    "start",
    "threads",
    "scale",
)
# Those by which out-of-order cores differ: few, as few operators are measured there.
OUT_OF_ORDER_TARGET = "snapdragon_845"
_OUT_OF_ORDER = (
    "scale",
    "overlap",
    "spill",
    "window_overlap",
    "store",
    "block",
    "div",
    "exp",
)
# The serial part is small: it counts less, and small numbers of cycles hardly.
_SERIAL, _SMALL = 0.3, 200.0
_LOSS = 0.1  # residuals of log ratios beyond this count linearly: they are outliers
_SMALLEST = 1e-3


def names(kind: str) -> tuple[str, ...]:
    """Constants of cycles, or of lines."""
    if kind != "cycles":
        return _LINES if kind == "lines" else _OUT_OF_ORDER
    every = tuple(field.name for field in fields(Constants))
    return tuple(x for x in every if x not in (*_LINES, *_OTHERS))


def residuals(
    measurements: Sequence[Measured], constants: Constants, kind: str
) -> list[float]:
    """Logarithms of predicted over measured."""
    found = []
    for one in measurements:
        said = predict(one, constants)
        if kind == "lines":
            found.append(math.log((said.lines + _SMALL) / (one.lines + _SMALL)))
            continue
        cycles = one.serial + one.parallel
        found.append(math.log((said.serial + said.parallel) / cycles))
        serial = math.log((said.serial + _SMALL) / (one.serial + _SMALL))
        found.append(_SERIAL * serial)
    return found


def fit(
    measurements: Sequence[Measured],
    start: Constants,
    kind: str,
    evaluations: int = 25,
) -> Constants:
    """The constants of a kind that fit best, from ``start`` on."""
    chosen = names(kind)
    first = np.maximum([getattr(start, name) for name in chosen], 2 * _SMALLEST)

    def made(values: Sequence[float]) -> Constants:
        return replace(start, **dict(zip(chosen, map(float, values), strict=True)))

    result = least_squares(
        lambda values: residuals(measurements, made(values), kind),
        first,
        bounds=(_SMALLEST, np.inf),
        loss="soft_l1",
        f_scale=_LOSS,
        x_scale=np.maximum(first, 0.05),
        max_nfev=evaluations,
    )
    return made(result.x)


def fit_all(measurements: Sequence[Measured], start: Constants) -> Constants:
    """Lines first, then cycles; they do not depend on each other."""
    return fit(measurements, fit(measurements, start, "lines"), "cycles")


def leave_out() -> dict[str, float]:
    """Median error on each family by constants fitted without it."""
    every = measured(TARGET, 1)
    found = {}
    for family in sorted({one.family for one in every}):
        rest = [one for one in every if one.family != family]
        constants = fit(rest, FITTED, "cycles", evaluations=4)
        own = [one for one in every if one.family == family]
        found[family] = errors(own, constants).median
        print(f"{family:20} {len(own):4} {found[family]:.3f}", flush=True)
    return found


def write(constants: Constants) -> None:
    """The numbers of the source file, replaced."""
    path = Path(str(module.__file__))
    text = path.read_text()
    for name in (*names("cycles"), *names("lines")):
        value = float(f"{getattr(constants, name):.4g}")
        text = re.sub(
            rf"(?m)^    {name}: float = .*$", f"    {name}: float = {value}", text
        )
    path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--leave-out", action="store_true")
    parser.add_argument("--out-of-order", action="store_true")
    arguments = parser.parse_args()
    if arguments.leave_out:
        leave_out()
        return
    if arguments.out_of_order:
        target = OUT_OF_ORDER_TARGET
        seen = measured(target, 1, held_out=False)
        constants = fit(seen, OUT_OF_ORDER, "out of order")
        print("fitted on", errors(seen, constants))
        print("held out ", errors(measured(target, held_out=True), constants))
        for name in _OUT_OF_ORDER:
            print(f"    {name}={getattr(constants, name):.3g},")
        return
    constants = fit_all(measured(TARGET, 1, held_out=False), FITTED)
    print("fitted on", errors(measured(TARGET, 1, held_out=False), constants))
    print("held out ", errors(measured(TARGET, 1, held_out=True), constants))
    for name in (*names("cycles"), *names("lines")):
        print(f"{name:20} {getattr(constants, name):.4g}")
    if arguments.write:
        write(constants)


if __name__ == "__main__":
    main()
