"""What a kernel does: loops of cycles, and sweeps over memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Loop:
    """Cycles of one loop, of which threads take equal parts.

    It is started ``starts`` times, and ``cycles`` are those of all.
    """

    cycles: float
    parts: int = 1
    starts: int = 1


@dataclass(frozen=True)
class Sweep:
    """A buffer that a stage goes through once, or ``repeats`` times.

    ``fetched`` false: it is cleared without being read.
    """

    buffer: str
    lines: float
    write: bool = False
    repeats: float = 1.0
    fetched: bool = True


Stage = Sequence[Sweep]


@dataclass(frozen=True)
class Work:
    """One execution of a kernel.

    Attributes:
        loops: one after the other.
        stages: sweeps over memory; the first stage is what ran before.
        again: cache lines that come from or go to DRAM beside those of the sweeps,
            since a stage does not find what it left in the cache.
    """

    loops: tuple[Loop, ...]
    stages: tuple[Stage, ...] = ()
    again: float = 0.0
