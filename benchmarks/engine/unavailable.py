"""What an engine fails with, and the line that says so."""

from __future__ import annotations

import sys

from benchmarks.engine.processes import EngineUnavailable
from gos_fx.errors import GosError

FAILURES = (EngineUnavailable, GosError, ValueError)


def say(name: str, network: str, on: str, threads: int, error: Exception) -> None:
    """One line on standard error."""
    where = f"{name}, {network} on {on}, {threads} threads"
    print(f"left out: {where}: {error}", file=sys.stderr, flush=True)
