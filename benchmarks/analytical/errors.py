"""Errors of the analytical model on measured operators and networks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from benchmarks.analytical.kernels import Measured, read
from gos_fx.ir.network import Network
from gos_fx.ir.parser import parse
from gos_fx.latency.analytical import costs_of
from gos_fx.latency.constants import Constants
from gos_fx.targets import get

# Families that no constant was fitted on, and the part of the others that was not
# either. A family's own constants are fitted on the rest of it.
HELD_OUT = frozenset(("dilated", "grouped", "separable", "block", "epilogue"))
HELD_OUT_PART = 1 / 3


@dataclass(frozen=True)
class Predicted:
    """Cycles outside and inside of parallel loops, lines, and seconds."""

    serial: float
    parallel: float
    lines: float
    seconds: float


@lru_cache(maxsize=4096)
def _network(text: str) -> Network:
    return Network.of(parse(text))


def predict(one: Measured, constants: Constants | None = None) -> Predicted:
    """What the model says of a measured operator; by the target's own constants."""
    target = get(one.target)
    network = _network(one.text)
    found = costs_of(network, target, one.threads, constants, border=False)
    costs = [cost for _, cost in found]
    return Predicted(
        sum(cost.serial for cost in costs),
        sum(cost.parallel(one.threads) for cost in costs),
        sum(cost.lines for cost in costs),
        sum(cost.seconds(target, one.threads) for cost in costs),
    )


def is_held_out(one: Measured) -> bool:
    """By family, or by a number that its text alone decides."""
    if one.family in HELD_OUT:
        return True
    digest = hashlib.sha256(one.text.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_PART * 2**32


def measured(
    target: str, threads: int | None = None, held_out: bool | None = None
) -> list[Measured]:
    """The measurements of a target."""
    return [
        one
        for one in read()
        if one.target == target
        and threads in (None, one.threads)
        and held_out in (None, is_held_out(one))
    ]


@dataclass(frozen=True)
class Errors:
    """Relative errors of seconds, and how well the order is foreseen."""

    count: int
    median: float
    quantile_90: float
    worst: float
    tau: float


def errors(
    measurements: Sequence[Measured], constants: Constants | None = None
) -> Errors:
    """Of the model on these operators."""
    pairs = [(predict(one, constants).seconds, one.seconds) for one in measurements]
    off = sorted(abs(a / b - 1) for a, b in pairs)
    return Errors(
        len(pairs),
        median(off),
        off[math.ceil(0.9 * len(off)) - 1],
        off[-1],
        kendall_tau(pairs),
    )


def kendall_tau(pairs: Iterable[tuple[float, float]]) -> float:
    """Concordant pairs less discordant ones, as a part of all (tau a)."""
    pairs = list(pairs)
    agreed = total = 0
    for i, (a, b) in enumerate(pairs):
        for c, d in pairs[:i]:
            agreed += (a > c) - (a < c) if b > d else (a < c) - (a > c) if b < d else 0
            total += 1
    return agreed / total if total else 1.0
