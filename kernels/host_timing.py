"""Wall-clock times of packages on this machine, pinned, in a process of their own."""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gos_fx.errors import BadOption, PackageError, UnsteadyMeasurement
from gos_fx.kernels.build import last_line
from gos_fx.kernels.compiler import COMPILER
from gos_fx.kernels.host import Timing, timing_of
from gos_fx.kernels.package import Package
from gos_fx.kernels.stopwatch import JOB, RESULT

# Where the kernel tells which logical CPUs are one core.
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_TIMEOUT = 600.0  # seconds for all repeats of all packages


@dataclass(frozen=True)
class Repeats:
    """How often to measure, and when to believe it.

    Attributes:
        most, least: calls of each package after one to warm up.
        seconds: after so many, ``least`` calls are enough.
        limit: largest spread to accept, as a part of the median.
        attempts: how often a measurement with a larger spread is made again.
    """

    most: int = 100
    least: int = 10
    seconds: float = 2.0
    limit: float = 0.1
    attempts: int = 4


@dataclass(frozen=True)
class HostTiming:
    """A package's inference as a whole, and its functions in order of execution."""

    total: Timing
    kernels: tuple[tuple[str, Timing], ...]


@dataclass(frozen=True)
class Comparison:
    """``ratio`` of the medians of A and B, and half the distance between the quartiles
    of the ratios of calls that followed each other."""

    a: Timing
    b: Timing
    ratio: float
    spread: float


def time_packages(
    packages: Sequence[Package],
    threads: int,
    repeats: Repeats | None = None,
    *,
    evict_bytes: int = 0,
) -> tuple[HostTiming, ...]:
    """Time packages that take the same inputs, one call of each in turn.

    Of several attempts the calmest counts. Before each call, each core writes
    ``evict_bytes`` of something else, so that weights come from memory.

    Raises:
        PackageError: a package is for another machine, or its code fails.
        BadOption: this process may not use so many cores.
        UnsteadyMeasurement: the calls differ by more than ``repeats.limit``.
    """
    repeats = repeats or Repeats()
    cpus = cores(threads)
    best: tuple[HostTiming, ...] = ()
    for _ in range(repeats.attempts):
        found = _attempt(packages, cpus, repeats, evict_bytes)
        if not best or _spread(found) < _spread(best):
            best = found
        if _spread(best) <= repeats.limit:
            return best
    spread = max(timing.total.relative_spread for timing in best)
    raise UnsteadyMeasurement(
        f"calls differ by {spread:.0%} of their median, more than {repeats.limit:.0%}",
        where=f"{threads} threads on cores {', '.join(map(str, cpus))} of this machine",
        do="End what else runs here, or measure with fewer threads.",
    )


def compare_packages(
    a: Package, b: Package, threads: int, repeats: Repeats | None = None
) -> Comparison:
    """How many times as long A takes as B, from calls in turn.

    Raises:
        GosError: as :func:`time_packages`.
    """
    first, second = (t.total for t in time_packages((a, b), threads, repeats))
    ratios = [x / y for x, y in zip(first.samples, second.samples, strict=True)]
    spread = timing_of(ratios).spread
    return Comparison(first, second, first.median / second.median, spread)


def cores(threads: int) -> tuple[int, ...]:
    """CPUs to pin so many threads to: those that this process may use, different cores
    before a second thread of one.

    Raises:
        BadOption: there are not so many.
    """
    allowed = sorted(os.sched_getaffinity(0))
    seen: dict[str, int] = {}
    order = []
    for cpu in allowed:
        try:
            core = Path(_SIBLINGS.format(cpu)).read_text().strip()
        except OSError:  # not every container shows it
            core = str(cpu)
        seen[core] = seen.get(core, 0) + 1
        order.append((seen[core], cpu))
    if threads > len(allowed):
        raise BadOption(
            f"{threads} threads, but this process may use {len(allowed)} CPUs",
            where="threads",
            do=f"Measure with at most {len(allowed)}.",
        )
    return tuple(cpu for _, cpu in sorted(order)[:threads])


def _attempt(
    packages: Sequence[Package],
    cpus: Sequence[int],
    repeats: Repeats,
    evict_bytes: int,
) -> tuple[HostTiming, ...]:
    for package in packages:
        if (wanted := package.manifest["machine"]) != platform.machine():
            raise PackageError(
                f"code for {wanted} does not run on {platform.machine()}",
                where=str(package.directory),
                do="Measure it on the board, or emulate it.",
            )
    job: dict[str, Any] = {
        "libraries": [str(package.library.resolve()) for package in packages],
        "inputs": packages[0].manifest["inputs"],
        "cpus": list(cpus),
        "repeats": repeats.most,
        "least": repeats.least,
        "seconds": repeats.seconds,
        "evict_bytes": evict_bytes,
    }
    with tempfile.TemporaryDirectory(prefix="gos_fx_measure_") as folder:
        directory = Path(folder)
        (directory / JOB).write_text(json.dumps(job))
        if COMPILER.run(directory, _TIMEOUT) or not (directory / RESULT).exists():
            said = directory / "stderr"
            text = said.read_text() if said.exists() else ""
            raise PackageError(
                f"the code fails: {last_line(text) or 'its process died'}",
                where=str(packages[0].directory),
            )
        result = json.loads((directory / RESULT).read_text())
    return tuple(
        HostTiming(
            timing_of(samples),
            tuple((k["function"], timing_of(k["seconds"])) for k in kernels),
        )
        for samples, kernels in zip(result["samples"], result["kernels"], strict=True)
    )


def _spread(timings: Sequence[HostTiming]) -> float:
    return statistics.fmean(timing.total.relative_spread for timing in timings)
