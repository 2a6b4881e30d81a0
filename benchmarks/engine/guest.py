"""Python for the emulated board: Debian's, with the engines' wheels for aarch64."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine.engine import engine
from benchmarks.engine.processes import ROOT, EngineUnavailable, run
from gos_fx.emulator.cache import cached_directory

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCE = "deb [signed-by={}] http://deb.debian.org/debian {} main\n"
_PARTS = ("python3.{0}-minimal", "libpython3.{0}-minimal", "libpython3.{0}-stdlib")
_LIBRARIES = ("libexpat1", "zlib1g", "libffi8")
_PLATFORMS = tuple(f"manylinux_2_{glibc}_aarch64" for glibc in (28, 27, 24, 17))


@dataclass(frozen=True)
class Guest:
    """An aarch64 Python with an engine.

    Attributes:
        python: the executable.
        variables: environment variables that it needs.
        packages: directory of the engine and what it needs.
    """

    python: Path
    variables: Mapping[str, str]
    packages: Path


def guest(name: str) -> Guest:
    """Python and an engine for the emulated board.

    Raises:
        EngineUnavailable: this is no Debian, or pip finds no such wheels; says why.
    """
    root = _python()
    (python,) = (root / "usr" / "bin").glob("python3.*")
    packages = _packages(name, python.name.removeprefix("python"))
    machine = "lib/aarch64-linux-gnu"
    return Guest(
        python,
        {
            "LD_LIBRARY_PATH": f"{root}/usr/{machine}:{root}/{machine}",
            "PYTHONHOME": str(root / "usr"),
            "PYTHONPATH": f"{packages}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",  # numpy's own threads have nothing to do
        },
        packages,
    )


def _python() -> Path:
    """Root directory of an unpacked Python."""
    release = _release()

    def make(folder: Path) -> None:
        state = folder / "apt"
        for part in ("state/lists/partial", "cache/archives/partial", "archives"):
            (state / part).mkdir(parents=True)
        (state / "state" / "status").touch()
        (state / "sources").write_text(_SOURCE.format(_KEYRING, release))
        options = _apt_options(state)
        run(["apt-get", *options, "update"])
        facts = run(["apt-cache", *options, "show", "python3-minimal"])
        found = re.search(r"python3\.(\d+)-minimal", facts)
        if found is None:
            raise EngineUnavailable(f"Debian {release} has no python3-minimal")
        wanted = [*(part.format(found[1]) for part in _PARTS), *_LIBRARIES]
        run(["apt-get", *options, "download", *wanted], cwd=state / "archives")
        for archive in (state / "archives").glob("*.deb"):
            run(["dpkg-deb", "-x", str(archive), str(folder)])
        shutil.rmtree(state)

    return cached_directory(f"engine-python-aarch64-{release}", make)


def _release() -> str:
    """Debian's name of the release that runs here."""
    tools = ("apt-get", "apt-cache", "dpkg-deb")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    facts = Path("/etc/os-release").read_text()
    found = re.search(r"^VERSION_CODENAME=(\w+)", facts, re.MULTILINE)
    if missing or found is None or not _KEYRING.exists():
        raise EngineUnavailable("an aarch64 Python is only known how to get on Debian")
    return found[1]


def _apt_options(state: Path) -> list[str]:
    """For an apt of its own, which needs no root and leaves the system's alone."""
    facts = {
        "Dir::Etc::sourcelist": state / "sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": state / "state",
        "Dir::State::status": state / "state" / "status",
        "Dir::Cache": state / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
    }
    return [part for key, value in facts.items() for part in ("-o", f"{key}={value}")]


def _packages(name: str, python: str) -> Path:
    """Directory with an engine's wheels, unpacked."""
    record = engine(name)
    facts = [record.guest, record.guest_dependencies, python, _PLATFORMS]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
        command += ["--target", str(folder), "--only-binary=:all:"]
        command += ["--implementation", "cp", "--python-version", python]
        command += [part for one in _PLATFORMS for part in ("--platform", one)]
        command += [] if record.guest_dependencies else ["--no-deps"]
        # A target directory is not this environment: what is here does not count.
        ignored = {**os.environ, "PIP_NO_WARN_CONFLICTS": "1"}
        run([*command, *record.guest], environment=ignored)

    return cached_directory(f"engine-{name}-aarch64-{digest}", make)
