"""aarch64 packages run on this machine under qemu-aarch64 (user mode).

Needs qemu (Debian: qemu-user), the C and C++ libraries of an aarch64 Linux (Debian's
cross packages) and the aarch64 runtime of TVM (its wheels); the last two are fetched
without root into the cache directory when they are not there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import numpy as np

from gos_fx import config
from gos_fx.errors import EmulatorUnavailable, PackageError
from gos_fx.kernels import link
from gos_fx.kernels.package import RUNTIME, Package

TRIPLE = "aarch64-linux-gnu.2.28"
_SYSTEM_SYSROOT = Path("/usr/aarch64-linux-gnu")
_SYSROOT_FILES = ("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libstdc++.so.6")
_DEBIAN_PACKAGES = (
    "libc6-arm64-cross",
    "libstdc++6-arm64-cross",
    "libgcc-s1-arm64-cross",
)
_WHEELS = ("apache-tvm", "apache-tvm-ffi")
_LIBRARIES = ("tvm/lib/libtvm_runtime.so", "tvm_ffi/lib/libtvm_ffi.so")
_PLATFORMS = tuple(f"manylinux_2_{glibc}_aarch64" for glibc in (28, 27, 24))


def run(
    package: Package,
    inputs: Sequence[np.ndarray],
    *,
    threads: int = 1,
    timeout: float | None = 600,
) -> tuple[np.ndarray, ...]:
    """The outputs of an aarch64 package, computed by its own code under qemu.

    Raises:
        EmulatorUnavailable: qemu, its libraries or TVM's are not to be had.
        PackageError: no package for an emulated target, inputs that do not fit it, or
            the program failed.
    """
    cpu = package.target.qemu_cpu
    if cpu is None:
        raise PackageError(
            f"there is no emulator for {package.target.name}",
            where=str(package.directory),
            do="Packages for this machine run directly.",
        )
    _check_inputs(package, inputs)
    with tempfile.TemporaryDirectory(prefix="gos_fx_emulate_") as folder:
        arguments, results = _files(package, inputs, Path(folder))
        command = [
            *emulator_command(cpu),
            str(driver()),
            str(package.library.resolve()),
            *("--threads", str(threads)),
            *arguments,
            "--",
            *map(str, results),
        ]
        _execute(command, package, timeout)
        return tuple(
            np.fromfile(path, spec.dtype).reshape(spec.shape)
            for path, spec in zip(results, package.outputs)
        )


def emulator_command(cpu: str) -> list[str]:
    """qemu and its options, to be put before an aarch64 program.

    Raises:
        EmulatorUnavailable: qemu or the libraries are not to be had.
    """
    qemu = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if qemu is None:
        raise EmulatorUnavailable(
            "qemu-aarch64 is not installed", do="Debian: apt-get install qemu-user"
        )
    libraries = f"LD_LIBRARY_PATH={runtime()}"
    return [qemu, "-cpu", cpu, "-L", str(sysroot()), "-E", libraries]


def sysroot() -> Path:
    """Directory with ``lib/ld-linux-aarch64.so.1`` and the C and C++ libraries.

    Raises:
        EmulatorUnavailable: it is not installed and cannot be fetched.
    """
    if _has_libraries(_SYSTEM_SYSROOT):
        return _SYSTEM_SYSROOT
    return _cached("sysroot-aarch64", _fetch_sysroot) / "usr" / "aarch64-linux-gnu"


def runtime() -> Path:
    """Directory with the aarch64 ``libtvm_runtime.so`` and ``libtvm_ffi.so``.

    Raises:
        EmulatorUnavailable: the wheels cannot be fetched.
    """
    versions = "-".join(metadata.version(name) for name in _WHEELS)
    return _cached(f"runtime-aarch64-{versions}", _fetch_runtime)


def driver() -> Path:
    """The C++ example of every package, built for aarch64 Linux.

    Raises:
        CompileError: zig failed.
        EmulatorUnavailable: the runtime it links to cannot be fetched.
    """
    source = RUNTIME / "driver.cpp"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    versions = "-".join(metadata.version(name) for name in _WHEELS)

    def make(folder: Path) -> None:
        import tvm_ffi.libinfo

        libraries = [runtime() / Path(name).name for name in _LIBRARIES]
        includes = [Path(path) for path in tvm_ffi.libinfo.include_paths()]
        link.program(source, folder / "driver", TRIPLE, includes, libraries)

    return _cached(f"driver-aarch64-{digest}-{versions}", make) / "driver"


def _check_inputs(package: Package, inputs: Sequence[np.ndarray]) -> None:
    if len(inputs) != len(package.inputs):
        raise PackageError(
            f"{len(inputs)} inputs given, {len(package.inputs)} wanted",
            where=str(package.directory),
        )
    for array, spec in zip(inputs, package.inputs):
        if array.shape != spec.shape or str(array.dtype) != spec.dtype:
            raise PackageError(
                f"{array.dtype}{list(array.shape)} where {spec.dtype}"
                f"{list(spec.shape)} is wanted",
                where=f"input {spec.name}",
            )


def _files(
    package: Package, inputs: Sequence[np.ndarray], folder: Path
) -> tuple[list[str], list[Path]]:
    arguments = []
    for i, (array, spec) in enumerate(zip(inputs, package.inputs)):
        path = folder / f"in{i}"
        np.ascontiguousarray(array).tofile(path)
        arguments.append(f"{spec.dtype}:{','.join(map(str, spec.shape))}:{path}")
    return arguments, [folder / f"out{i}" for i in range(len(package.outputs))]


def _execute(command: list[str], package: Package, timeout: float | None) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise PackageError(
            f"the emulated program took longer than {timeout} s",
            where=str(package.directory),
        ) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise PackageError(
            f"the emulated program failed: {said[-1] if said else done.returncode}",
            where=str(package.directory),
        )


def _has_libraries(root: Path) -> bool:
    return all((root / "lib" / name).exists() for name in _SYSROOT_FILES)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """A directory of the cache, made once whoever comes first, whole or not at all."""
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


def _fetch_sysroot(folder: Path) -> None:
    install = f"Debian: apt-get install {' '.join(_DEBIAN_PACKAGES)}"
    tools = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if tools:
        raise EmulatorUnavailable(
            "the aarch64 C library is not installed",
            where=str(_SYSTEM_SYSROOT),
            do=f"{install}; other systems: put such a tree there.",
        )
    with tempfile.TemporaryDirectory(dir=folder.parent) as downloads:
        _fetch(["apt-get", "download", *_DEBIAN_PACKAGES], Path(downloads), install)
        for archive in Path(downloads).glob("*.deb"):
            _fetch(["dpkg-deb", "-x", str(archive), str(folder)], folder, install)
    if not _has_libraries(folder / "usr" / "aarch64-linux-gnu"):
        raise EmulatorUnavailable("Debian's packages lack the libraries", do=install)


def _fetch_runtime(folder: Path) -> None:
    wheels = [f"{name}=={metadata.version(name)}" for name in _WHEELS]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    with tempfile.TemporaryDirectory(dir=folder.parent) as downloads:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version", python, *platforms]
        _fetch(
            [*command, *wheels],
            Path(downloads),
            "A network is needed once: pip downloads the aarch64 wheels of TVM.",
        )
        for wheel in Path(downloads).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for name in set(_LIBRARIES) & set(archive.namelist()):
                    (folder / Path(name).name).write_bytes(archive.read(name))
    if missing := [n for n in _LIBRARIES if not (folder / Path(n).name).exists()]:
        raise EmulatorUnavailable(f"TVM's aarch64 wheels lack {missing[0]}")


def _fetch(command: list[str], folder: Path, remedy: str) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise EmulatorUnavailable(
            f"{' '.join(command[:2])} failed: {said[-1] if said else 'no message'}",
            do=remedy,
        )
