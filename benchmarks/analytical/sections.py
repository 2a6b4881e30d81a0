"""The analytical model's errors as tables of ``benchmarks.latency_sources``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.analytical import report


def analytical() -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """Operators held out of the fit, by target and by family, and whole networks."""
    yield (
        "Analytical model against the emulator, operators held out of the fit",
        [_row(name, found) for name, found in report.operator_errors().items()],
    )
    yield (
        "The same by family, arm_a53 at one thread",
        [_row(name, found) for name, found in report.family_errors().items()],
    )
    yield (
        "Whole networks, against the emulator",
        [
            {
                "network": name,
                "analytical_ms": 1e3 * found["analytical_s"],
                "emulator_ms": 1e3 * found["emulator_s"],
                "error %": 100 * found["error"],
                "between operators, share %": 100 * found["between_share"],
            }
            for name, found in report.network_errors().items()
        ],
    )


def _row(name: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "operators": name,
        "count": found["count"],
        "median %": 100 * found["median"],
        "90 % below %": 100 * found["quantile_90"],
        "worst %": 100 * found["worst"],
        "tau": found["tau"],
    }
