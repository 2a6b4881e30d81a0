"""The counting plugin of qemu, compiled where it is first used."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from gos_fx.emulator.cache import cached_directory
from gos_fx.errors import EmulatorUnavailable

SOURCE = Path(__file__).parent / "plugin.c"
_OPTIONS = ("-O3", "-std=c11", "-shared", "-fPIC")


def plugin() -> Path:
    """The compiled plugin, from the cache after the first time.

    Raises:
        EmulatorUnavailable: there is no C compiler, or it failed.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    return cached_directory(f"plugin-{digest}", _compile) / "plugin.so"


def _compile(folder: Path) -> None:
    said = ""
    for compiler in _compilers():
        command = [*compiler, *_OPTIONS, str(SOURCE), "-o", str(folder / "plugin.so")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        said = said or next((x for x in done.stderr.splitlines() if "error" in x), "")
    raise EmulatorUnavailable(
        f"the plugin of qemu does not compile: {said or 'no C compiler'}",
        where=str(SOURCE),
        do="Install a C compiler, or pip install ziglang.",
    )


def _compilers() -> list[list[str]]:
    """This machine's own compiler starts faster than zig's wheel does."""
    own = [[name] for name in ("cc", "gcc", "clang") if shutil.which(name)]
    # qemu itself defines the interface: its names are resolved when it loads this.
    return [*own, [sys.executable, "-m", "ziglang", "cc", "-Wl,-z,undefs"]]
