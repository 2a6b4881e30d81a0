"""When two numbers of a source are of one kind, and by how much they differ then."""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path

from gos_fx.kernels.tuning.setting import digest, sources_digest
from gos_fx.latency.model import Estimate
from gos_fx.latency.source import Source

# Two emulations of the same code on several threads differ by at most this, relative.
# The noise that the emulator states is another thing: what two different programs
# differ by on a real board.
EMULATED = 0.01


def repeat_error(found: Estimate) -> float:
    """Seconds that the same code may take more or less the next time it is asked for.

    The model gives the same number again: what counts there is its noise.
    """
    if found.source == "emulator":
        return EMULATED * found.seconds
    return found.spread


def identity(source: Source) -> str:
    """What has to be the same for numbers of two sources to be compared.

    The name; for the emulator also how it gets from counts to seconds.
    """
    if source.name != "emulator" or source.target.emulation is None:
        return source.name
    constants = asdict(source.target.emulation)
    return f"{source.name}:{digest([constants, _emulating()])[:16]}"


@functools.cache
def _emulating() -> str:
    """Digest of the emulator's code."""
    here = Path(__file__).parent
    paths = [here / "emulator.py", *sorted((here.parent / "emulator").iterdir())]
    return sources_digest(p for p in paths if p.suffix in (".py", ".c"))
