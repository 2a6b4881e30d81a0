"""What is kept of a kernel: trials of candidates, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass

from gos_fx.kernels.tuning.sizes import Sizes


@dataclass(frozen=True)
class Trial:
    """One candidate of one kernel, measured or failed.

    Attributes:
        seconds, error, noise: as those of :class:`gos_fx.latency.model.Estimate`; of
            several measurements, the one that is believed.
        first: seconds of the first measurement.
        repeats: how often it was measured.
        failure: why it has no latency; empty where it has one.
    """

    seconds: float = 0.0
    error: float = 0.0
    noise: float | None = None
    first: float = 0.0
    repeats: int = 1
    failure: str = ""


@dataclass(frozen=True)
class Choice:
    """What was decided for a kernel.

    Attributes:
        sizes: None where nothing was found to be better than the default.
        seconds, error: with these sizes.
        untuned: seconds with the default.
        source: that measured it.
        made: seconds since 1970.
    """

    sizes: Sizes | None
    seconds: float
    untuned: float
    error: float
    source: str
    made: float
