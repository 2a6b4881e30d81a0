"""TVM's runtime for aarch64 and our programs that use it, made once in the cache."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

from gos_fx import config
from gos_fx.emulator.cache import cached_directory
from gos_fx.errors import EmulatorUnavailable
from gos_fx.kernels import link

TRIPLE = "aarch64-linux-gnu.2.28"
SOURCES = Path(__file__).parent / "runtime"
_PROBE = Path(__file__).parent / "probe" / "probe.cpp"
_WHEELS = ("apache-tvm", "apache-tvm-ffi")
_LIBRARIES = ("tvm/lib/libtvm_runtime.so", "tvm_ffi/lib/libtvm_ffi.so")
_PLATFORMS = tuple(f"manylinux_2_{glibc}_aarch64" for glibc in (28, 27, 24))


def runtime() -> Path:
    """Directory with the aarch64 ``libtvm_runtime.so`` and ``libtvm_ffi.so``.

    Raises:
        EmulatorUnavailable: the wheels cannot be fetched.
    """
    return cached_directory(_cached(), _fetch)


def runtime_there() -> Path | None:
    """The same directory where nothing needs to be fetched, else None."""
    fetched = config.cache_dir() / _cached()
    return fetched if fetched.is_dir() else None


def driver() -> Path:
    """The C++ example of every package, built for aarch64 Linux.

    Raises:
        CompileError: zig failed.
        EmulatorUnavailable: the runtime it links to cannot be fetched.
    """
    return _program(SOURCES / "driver.cpp")


def probe() -> Path:
    """The program that marks the kernels of a network, built for aarch64 Linux.

    Raises:
        CompileError, EmulatorUnavailable: as :func:`driver`.
    """
    return _program(_PROBE, SOURCES / "driver.cpp")


def _program(source: Path, *included: Path) -> Path:
    texts = b"".join(path.read_bytes() for path in (source, *included))
    digest = hashlib.sha256(texts).hexdigest()[:12]

    def make(folder: Path) -> None:
        import tvm_ffi.libinfo

        libraries = [runtime() / Path(name).name for name in _LIBRARIES]
        includes = [SOURCES, *map(Path, tvm_ffi.libinfo.include_paths())]
        link.program(source, folder / source.stem, TRIPLE, includes, libraries)

    name = f"{source.stem}-aarch64-{digest}-{_versions()}"
    return cached_directory(name, make) / source.stem


def _cached() -> str:
    return f"runtime-aarch64-{_versions()}"


def _versions() -> str:
    return "-".join(metadata.version(name) for name in _WHEELS)


def _fetch(folder: Path) -> None:
    wheels = [f"{name}=={metadata.version(name)}" for name in _WHEELS]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", python, *platforms]
    with tempfile.TemporaryDirectory(dir=folder.parent) as downloads:
        done = subprocess.run(
            [*command, *wheels],
            cwd=downloads,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise EmulatorUnavailable(
                f"pip download failed: {said[-1] if said else 'no message'}",
                do="A network is needed once: pip downloads the aarch64 wheels of TVM.",
            )
        for wheel in Path(downloads).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for name in set(_LIBRARIES) & set(archive.namelist()):
                    (folder / Path(name).name).write_bytes(archive.read(name))
    if missing := [n for n in _LIBRARIES if not (folder / Path(n).name).exists()]:
        raise EmulatorUnavailable(f"TVM's aarch64 wheels lack {missing[0]}")
