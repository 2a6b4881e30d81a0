"""A user's board: another target's record with what is known of the board, and the
constants that its measured programs give."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gos_fx.emulator.calibrate import (
    FEWEST,
    Calibration,
    Constants,
    Program,
    calibrate,
)
from gos_fx.errors import BadOption
from gos_fx.targets import target as table
from gos_fx.targets.target import Fit, Machine, Target
from gos_fx.targets.validate import check_target


@dataclass(frozen=True)
class Derived:
    """A target, and by threads the fits that its constants come from."""

    target: Target
    calibrations: Mapping[int, Calibration]


def uncalibrated(
    base: Target,
    name: str,
    description: str | None = None,
    memory_bytes: int | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Target:
    """The base under another name, with the board's own numbers.

    Args:
        machine: fields of :class:`~gos_fx.targets.target.Machine`.

    Raises:
        BadOption: the base is not emulated, the name is taken, a number impossible.
    """
    if base.emulation is None:
        raise BadOption(
            f"{base.name} is not emulated, so nothing can be counted for it",
            where="--base",
            do="Name a target whose core is like the board's: gos-fx targets.",
        )
    if name in table.names():
        raise BadOption(
            f"there is a target {name!r} already", where="--name", do="Choose another."
        )
    changes = dict(machine or {})
    target = replace(
        base,
        name=name,
        description=description or f"{name}: {base.name} by another board's constants",
        machine=replace(base.machine, **changes),
        tvm={**base.tvm, "num-cores": changes.get("cores", base.machine.cores)},
        model_memory_bytes=base.model_memory_bytes
        if memory_bytes is None
        else memory_bytes,
    )
    check_target(target)
    return target


def derive(
    target: Target, programs: Sequence[Program], source: str, keep: Sequence[str] = ()
) -> Derived:
    """The target with constants fitted on programs, for each number of threads.

    Numbers of threads that its record had and no program has keep that record's
    constants, scaled by how much slower than by it the programs were; their error is
    wider by as much. The rates of the memory follow from the constants.

    Args:
        source: where the programs come from.
        keep: fields of the machine that stay as they are.

    Raises:
        BadOption: fewer than three programs for a number of threads, or they do not
            tell the constants apart.
    """
    emulation = target.emulation
    assert emulation is not None  # `uncalibrated` has refused it
    calibrations = {}
    for threads in sorted({program.threads for program in programs}):
        chosen = [program for program in programs if program.threads == threads]
        if len(chosen) < FEWEST:
            names = ", ".join(program.name for program in chosen)
            raise BadOption(
                f"{len(chosen)} programs ({names}) on {threads} threads: two constants "
                "are fitted, and one more is needed to know their error",
                where="measured programs",
                do=f"Measure at least {FEWEST} for each number of threads, or leave "
                "these out.",
            )
        calibrations[threads] = calibrate(chosen)
    if not calibrations:
        raise BadOption("there are no programs", where="measured programs")
    fits = {
        threads: found.fit(threads, f"{source}, {len(found.programs)} programs")
        for threads, found in calibrations.items()
    }
    for fit in emulation.fits:
        if fit.threads not in fits and fit.threads <= target.machine.cores:
            nearest = min(calibrations, key=lambda n: abs(n - fit.threads))
            base = emulation.fit(nearest)
            fits[fit.threads] = _carried(fit, base, calibrations[nearest])
    ordered = tuple(fits[threads] for threads in sorted(fits))
    machine = _memory(target.machine, ordered, keep)
    derived = replace(
        target, machine=machine, emulation=replace(emulation, fits=ordered)
    )
    check_target(derived)
    return Derived(derived, calibrations)


def _carried(fit: Fit, base: Fit, found: Calibration) -> Fit:
    """A record's constants in proportion to what the board needed at other threads."""
    constants = Constants(base.issue, base.line_s)
    ratios = [p.seconds / constants.seconds(p) for p in found.programs]
    scale = statistics.median(ratios)
    off = abs(scale - 1), found.covering
    return Fit(
        fit.threads,
        fit.issue * scale,
        fit.line_s * scale,
        float(np.hypot(fit.error, np.hypot(*off))),
        max(fit.noise, found.noise),
        f"{fit.source}, times {scale:.3g} (not measured on {fit.threads} threads)",
    )


def _memory(machine: Machine, fits: Sequence[Fit], keep: Sequence[str]) -> Machine:
    """The rates that the seconds per line are, where no others are given."""
    rates = {"dram_bytes_per_s_1": fits[0], "dram_bytes_per_s_all": fits[-1]}
    changes: dict[str, Any] = {
        field: machine.line_bytes / fit.line_s
        for field, fit in rates.items()
        if field not in keep and fit.line_s > 0
    }
    return replace(machine, **changes)
