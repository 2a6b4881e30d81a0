"""How sure a difference between two scores on the same samples is."""

from __future__ import annotations

import math
import statistics

from gos_fx.evolve.task import Score

Z = 1.959964  # 97.5 % quantile of the normal distribution


def paired_drop(
    before: Score, after: Score, *, mode: str = "max"
) -> tuple[float, float] | None:
    """Centre and standard error of the metric's drop from ``before`` to ``after``.

    Right-or-wrong metrics: as in the adjusted Wald interval for matched pairs of
    Agresti and Min (Statistics in Medicine 24, 2005), which holds for few discordant
    pairs too. Others: mean and standard error of the differences. None when the metric
    gives no value for each sample.
    """
    n = len(before.values)
    if n < 2 or n != len(after.values) or set(before.weights) != {1.0}:
        return None
    sign = 1.0 if mode == "max" else -1.0
    drops = [sign * (b - a) for b, a in zip(before.values, after.values, strict=True)]
    if set(before.values) | set(after.values) <= {0.0, 1.0}:
        lost = sum(d > 0 for d in drops) + 0.5
        won = sum(d < 0 for d in drops) + 0.5
        total = n + 2.0
        variance = lost + won - (lost - won) ** 2 / total
        return (lost - won) / total, math.sqrt(variance) / total
    return statistics.fmean(drops), statistics.stdev(drops) / math.sqrt(n)


def paired_interval(
    before: Score, after: Score, *, mode: str = "max"
) -> tuple[float, float] | None:
    """95 % interval of the metric's drop; None without a value for each sample."""
    found = paired_drop(before, after, mode=mode)
    if found is None:
        return None
    centre, error = found
    return centre - Z * error, centre + Z * error
