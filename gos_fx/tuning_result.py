"""What tuning found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.latency.model import Estimate, total


@dataclass(frozen=True)
class Found:
    """What tuning one kernel came to.

    Attributes:
        before, after: with the default sizes and with those chosen; None where the
            default has no latency.
        default: the sizes that are compiled where nothing is known.
        sizes: None where nothing was better than the default.
        stands: False where an earlier decision of a better source was not replaced.
        measured, failed: what the source was asked, and how often that had no latency.
        known: trials that the records had before.
        failure: why the default has no latency.
    """

    before: Estimate | None
    after: Estimate | None
    default: Sizes
    sizes: Sizes | None
    stands: bool
    measured: int
    failed: int
    known: int
    failure: str = ""


@dataclass(frozen=True)
class TunedKernel:
    """One kernel of the network; ``calls`` is how many of its kernels are equal.

    ``name`` says what it computes, ``text`` is its graph.
    """

    name: str
    text: str
    calls: int
    found: Found

    def to_json(self) -> dict[str, Any]:
        """Plain data; seconds are those of one call."""
        found = self.found
        return {
            "name": self.name,
            "text": self.text,
            "calls": self.calls,
            "before_s": None if found.before is None else found.before.seconds,
            "after_s": None if found.after is None else found.after.seconds,
            "error_s": None if found.after is None else found.after.error,
            "default": found.default.to_json(),
            "sizes": None if found.sizes is None else found.sizes.to_json(),
            "stands": found.stands,
            "measured": found.measured,
            "failed": found.failed,
            "known": found.known,
            "failure": found.failure,
        }


@dataclass(frozen=True)
class TuningResult:
    """What :func:`tune` found.

    Attributes:
        target, threads, source: what was measured, and how.
        kernels: those with a tile to choose, in the order in which they were tuned: the
            one that takes most of the network's time first.
        records: the database, which the compiler reads.
        seconds: that the tuning took.
        interrupted: by Ctrl-C.
        refused: sources that "auto" could not have, and why.
    """

    target: str
    threads: int
    source: str
    kernels: tuple[TunedKernel, ...]
    records: Path
    seconds: float
    interrupted: bool = False
    refused: tuple[dict[str, str], ...] = ()

    @property
    def before(self) -> Estimate:
        """All calls of the kernels that were measured, with the default sizes."""
        return self._sum(lambda found: found.before)

    @property
    def after(self) -> Estimate:
        """The same calls with the sizes that were chosen."""
        return self._sum(lambda found: found.after)

    @property
    def speedup(self) -> float:
        return self.before.seconds / (self.after.seconds or 1.0)

    def to_json(self) -> dict[str, Any]:
        """Plain data; latencies in seconds."""
        return {
            "target": self.target,
            "threads": self.threads,
            "latency_source": self.source,
            "latency_refused": list(self.refused),
            "kernels": [kernel.to_json() for kernel in self.kernels],
            "before_s": self.before.seconds,
            "after_s": self.after.seconds,
            "error_s": self.after.error,
            "records": str(self.records),
            "seconds": self.seconds,
            "interrupted": self.interrupted,
        }

    def _sum(self, latency: Callable[[Found], Estimate | None]) -> Estimate:
        each = ((kernel, latency(kernel.found)) for kernel in self.kernels)
        calls = (x.scaled(kernel.calls) for kernel, x in each if x is not None)
        return total(calls, self.source, self.target)
