"""An environment of its own for each engine, made by pip in the cache.

It sees the packages of this process's environment behind its own ones, so that torch is
there once and is the same everywhere, and what an engine asks for in other versions
does not come into this environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine.engine import Engine, engine
from benchmarks.engine.processes import ROOT, run
from gos_fx.emulator.cache import cached_directory

_FORMAT = 2
_HERE = sysconfig.get_path("purelib")


@dataclass(frozen=True)
class Environment:
    """A Python interpreter, and the version that the engine has there."""

    python: Path
    version: str

    def packages(self) -> Path:
        """Directory of the installed packages."""
        names = ("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}")
        return self.python.parents[1].joinpath(*names, "site-packages")


def environment(name: str) -> Environment:
    """An engine's environment, made when it is first asked for.

    Raises:
        EngineUnavailable: pip cannot install the engine; says why.
    """
    record = engine(name)
    if not record.requires:
        python = Path(sys.executable)
        return Environment(python, _version(python, record))
    facts = [_FORMAT, sys.version, _HERE, record.requires]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

    def make(folder: Path) -> None:
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        packages = Environment(python, "").packages()
        (packages / "of_the_project.pth").write_text(f"{_HERE}\n")
        options = ("-m", "pip", "install", "--quiet", "--no-warn-conflicts")
        run([str(python), *options, *record.requires])

    folder = cached_directory(f"engine-{name}-{digest}", make)
    python = folder / "bin" / "python"
    return Environment(python, _version(python, record))


def variables(more: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for a process of an engine."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def _version(python: Path, record: Engine) -> str:
    name = record.distribution
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return run([str(python), "-c", code]).strip()
