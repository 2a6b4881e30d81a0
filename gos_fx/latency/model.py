"""A latency with its error and its origin."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Estimate:
    """Seconds that something takes on a target.

    Attributes:
        seconds: the latency.
        error: half width of the interval in which the true value is believed to be, in
            seconds. Errors of one source are taken as correlated: they add up linearly.
        source: where the number comes from ("analytical", "emulator", "host", ...);
            a sum of several sources names them all, joined by "+".
        target: name of the target.
        noise: the part of ``error`` that two estimates of one source do not share, in
            seconds: what a comparison of the two is uncertain by. A wrong clock rate is
            error, a badly predicted cache miss is noise too. Left out, it is ``error``.
    """

    seconds: float
    error: float
    source: str
    target: str
    noise: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("seconds", self.seconds), ("error", self.error)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} of an estimate is {value}")

    @property
    def spread(self) -> float:
        """``noise``, or ``error`` where no noise is known, in seconds."""
        return self.error if self.noise is None else self.noise

    def __add__(self, other: Estimate) -> Estimate:
        """One after the other.

        Raises:
            ValueError: the two are of different targets.
        """
        if self.target != other.target:
            raise ValueError(f"cannot add {self.target} and {other.target}")
        sources = set(self.source.split("+")) | set(other.source.split("+"))
        return Estimate(
            self.seconds + other.seconds,
            self.error + other.error,
            "+".join(sorted(sources)),
            self.target,
            self.spread + other.spread,
        )

    def scaled(self, times: float) -> Estimate:
        """``times`` executions."""
        return replace(
            self,
            seconds=self.seconds * times,
            error=self.error * times,
            noise=self.spread * times,
        )

    def __str__(self) -> str:
        ms, error = 1e3 * self.seconds, 1e3 * self.error
        return f"{ms:.4g} ms +- {error:.2g} ({self.source}, {self.target})"


def total(estimates: Iterable[Estimate], source: str, target: str) -> Estimate:
    """Sum of the estimates; of none, it is zero seconds of this source."""
    estimates = tuple(estimates)
    if not estimates:
        return Estimate(0.0, 0.0, source, target, 0.0)
    result = estimates[0]
    for estimate in estimates[1:]:
        result = result + estimate
    return result


def uncertainty(a: Estimate, b: Estimate) -> float:
    """Seconds by which ``a.seconds - b.seconds`` may be wrong.

    Two estimates of the same source and target share the larger part of their errors,
    so only their noise counts; any others are compared by their whole errors.
    """
    if (a.source, a.target) == (b.source, b.target):
        return math.hypot(a.spread, b.spread)
    return math.hypot(a.error, b.error)


def close(a: Estimate, b: Estimate) -> bool:
    """Whether the two cannot be told apart: their errors cover the difference."""
    return abs(a.seconds - b.seconds) <= uncertainty(a, b)
