"""Commands of other programs, and where they failed."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


class EngineUnavailable(Exception):
    """An engine cannot be installed, or does not take a network; says why."""


def run(
    command: Sequence[str],
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a command prints.

    Raises:
        EngineUnavailable: it failed; the end of what it said.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        name = " ".join(Path(word).name for word in command[:4])
        raise EngineUnavailable(f"{name} failed: {last_words(done.stderr)}")
    return done.stdout


def last_words(said: str) -> str:
    """The last line of a text that is an error, or the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no message"])[-1][:500]
