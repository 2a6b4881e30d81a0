"""The interval of a paired difference."""

from __future__ import annotations

import math
import random

import pytest

from gos_fx.evolve.statistics import paired_interval
from gos_fx.evolve.task import Score


def score(values: list[float], weight: float = 1.0) -> Score:
    return Score(tuple(values), (weight,) * len(values))


def pairs(both: int, lost: int, won: int, neither: int) -> tuple[Score, Score]:
    before = [1.0] * (both + lost) + [0.0] * (won + neither)
    after = [1.0] * both + [0.0] * lost + [1.0] * won + [0.0] * neither
    return score(before), score(after)


def test_agresti_and_min_by_hand() -> None:
    # Half an observation into each cell of the table of 100 pairs, 6 lost and 2 won:
    # n = 102, p12 = 6.5 / 102, p21 = 2.5 / 102.
    found = paired_interval(*pairs(80, 6, 2, 12))
    assert found is not None
    p12, p21 = 6.5 / 102, 2.5 / 102
    width = 1.959964 * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / 102)
    assert found == pytest.approx((p12 - p21 - width, p12 - p21 + width), rel=1e-9)
    assert found == pytest.approx((-0.017926, 0.096357), abs=1e-6)


def test_no_discordant_pair_still_has_a_width() -> None:
    found = paired_interval(*pairs(50, 0, 0, 0))
    assert found is not None and found[0] == -found[1] and 0.02 < found[1] < 0.06


def test_mode_min_turns_the_sign() -> None:
    before, after = pairs(80, 6, 2, 12)
    drop, error = (paired_interval(before, after, mode=mode) for mode in ("max", "min"))
    assert drop is not None and error is not None
    assert error == pytest.approx((-drop[1], -drop[0]))


def test_other_metrics_take_the_mean_difference() -> None:
    before, after = score([1.0, 2.0, 3.0, 4.0]), score([0.5, 2.5, 2.0, 3.0])
    found = paired_interval(before, after)
    assert found is not None
    deviation = math.sqrt(((0.5 - 0.5) ** 2 + 1 + 0.25 + 0.25) / 3)
    width = 1.959964 * deviation / 2
    assert found == pytest.approx((0.5 - width, 0.5 + width))


def test_without_values_for_each_sample_there_is_none() -> None:
    assert paired_interval(score([1.0]), score([1.0])) is None
    assert paired_interval(score([1.0, 0.0]), score([1.0])) is None
    assert paired_interval(score([0.9, 0.8], 4.0), score([0.9, 0.8], 4.0)) is None


def test_coverage() -> None:
    """About 95 of 100 intervals hold the true drop."""
    rng = random.Random(0)
    trials, held = 800, 0
    p_lost, p_won = 0.06, 0.02
    for _ in range(trials):
        draws = [rng.random() for _ in range(120)]
        lost = sum(d < p_lost for d in draws)
        won = sum(p_lost <= d < p_lost + p_won for d in draws)
        interval = paired_interval(*pairs(120 - lost - won, lost, won, 0))
        assert interval is not None
        held += interval[0] <= p_lost - p_won <= interval[1]
    assert 0.93 <= held / trials <= 0.98
