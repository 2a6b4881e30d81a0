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
_COMPUTED = ("analytical", "emulator")


def repeat_error(found: Estimate) -> float:
    """Seconds that the same code may take more or less the next time it is asked for.

    The model gives the same number again: what counts there is its noise.
    """
    if found.source == "emulator":
        return EMULATED * found.seconds
    return found.spread


def identity(source: Source) -> str:
    """What has to be the same for numbers of two sources to be compared.

    The name; for sources that compute their numbers also how they do it.
    """
    if source.name not in _COMPUTED:
        return source.name
    emulation = source.target.emulation
    constants = None if emulation is None else asdict(emulation)
    return f"{source.name}:{digest([constants, _computing()])[:16]}"


@functools.cache
def _computing() -> str:
    """Digest of the code of the model and of the emulator."""
    here = Path(__file__).parent
    folders = (here, here.parent / "emulator")
    paths = [path for folder in folders for path in sorted(folder.iterdir())]
    return sources_digest(p for p in paths if p.suffix in (".py", ".c"))
