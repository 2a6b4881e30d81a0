"""What can be made again, kept in directories of the cache."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gos_fx import config
from gos_fx.errors import EmulatorUnavailable


def cached_directory(name: str, make: Callable[[Path], None]) -> Path:
    """A directory of the cache, made by whoever comes first, whole or not at all.

    Args:
        name: holds a digest of all that the content depends on.
        make: fills an empty directory.

    Raises:
        EmulatorUnavailable: the cache cannot be written; and what ``make`` raises.
    """
    final = config.cache_dir() / name
    if final.is_dir():
        return final
    try:
        with _locked(final.with_name(f"{name}.lock")):
            if final.is_dir():
                return final
            with tempfile.TemporaryDirectory(dir=final.parent) as folder:
                made = Path(folder) / "made"
                made.mkdir()
                make(made)
                os.rename(made, final)
    except OSError as error:
        raise EmulatorUnavailable(
            f"the cache cannot be written: {error.strerror}",
            where=str(final),
            do="Set GOS_FX_CACHE to a directory that can be written.",
        ) from error
    return final


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
