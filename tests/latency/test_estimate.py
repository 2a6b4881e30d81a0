from __future__ import annotations

import math

import pytest

from gos_fx.latency.model import Estimate, close, total


def ms(seconds: float, error: float, noise: float | None = None, **kw: str) -> Estimate:
    source, target = kw.get("source", "analytical"), kw.get("target", "arm_a53")
    return Estimate(seconds / 1e3, error / 1e3, source, target, noise and noise / 1e3)


def test_addition_adds_errors_and_names_sources() -> None:
    both = ms(1, 0.5, 0.1) + ms(2, 0.2, source="host")
    assert both.seconds == pytest.approx(3e-3)
    assert both.error == pytest.approx(0.7e-3)
    assert both.spread == pytest.approx(0.3e-3)
    assert both.source == "analytical+host"
    assert (both + ms(1, 0, source="host")).source == "analytical+host"


def test_addition_over_targets_raises() -> None:
    with pytest.raises(ValueError, match="cannot add arm_a53 and host"):
        ms(1, 0) + ms(1, 0, target="host")


def test_total_and_scaled() -> None:
    assert total([], "host", "arm_a53") == Estimate(0.0, 0.0, "host", "arm_a53", 0.0)
    assert total([ms(1, 0.5, 0.1)] * 3, "", "") == ms(1, 0.5, 0.1).scaled(3)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_nonsense_is_no_estimate(bad: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Estimate(bad, 0.0, "host", "host")
    with pytest.raises(ValueError, match="error"):
        Estimate(0.0, bad, "host", "host")


def test_close_by_noise_within_a_source_and_by_error_between_sources() -> None:
    a, b = ms(10, 5, 1), ms(12, 6, 1)
    assert not close(a, b)  # 2 ms apart, uncertain by 1.4 ms
    assert close(a, ms(11, 5, 1))
    assert close(a, ms(12, 6, 1, source="host"))
    assert close(ms(10, 5), ms(12, 6)), "without noise the whole error counts"
    assert not close(ms(10, 0), ms(10.001, 0)) and close(ms(10, 0), ms(10, 0))


def test_text() -> None:
    assert str(ms(3.14159, 1.5)) == "3.142 ms +- 1.5 (analytical, arm_a53)"
