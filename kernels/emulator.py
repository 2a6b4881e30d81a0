"""Packages for an emulated target: run, and counted kernel by kernel."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gos_fx import config
from gos_fx.emulator import qemu
from gos_fx.emulator.plugin import SOURCE as PLUGIN
from gos_fx.emulator.sysroot import emulation_of
from gos_fx.emulator.timing import Clock
from gos_fx.errors import EmulatorUnavailable, PackageError
from gos_fx.kernels import cross_runtime
from gos_fx.kernels.kernel_work import KernelWork, kernel_works
from gos_fx.kernels.package import Package
from gos_fx.targets.target import Target

# Raised whenever cached counts would come out differently.
_FORMAT = 5
# Memory read to push everything out of the caches: twice the last level, at least this.
_FLUSH = 4 << 20


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
    _check_target(package)
    _check_inputs(package, inputs)
    with tempfile.TemporaryDirectory(prefix="gos_fx_emulate_") as folder:
        arguments, results = _files(package, inputs, Path(folder))
        command = [
            *qemu.command(package.target, _guest_variables()),
            str(cross_runtime.driver()),
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


def measure(
    package: Package,
    *,
    threads: int = 1,
    alone: bool = False,
    timeout: float | None = 600,
) -> tuple[KernelWork, ...]:
    """Counts of the kernels of one inference, in order of execution.

    The last entry is what the runtime does between the kernels. Inputs are normal
    numbers (zeros for integers), always the same. Results are cached by content.

    Args:
        package: for an emulated target.
        threads: parts into which parallel loops are divided.
        alone: the caches are as in a larger network: inputs in them, weights not.
        timeout: seconds.

    Raises:
        EmulatorUnavailable: something is missing; the message says what to install.
        ProgramFailed: the program failed or took too long.
        PackageError: no package for an emulated target.
    """
    target = _check_target(package)
    clock = Clock(target)
    path = (
        config.cache_dir() / "emulated" / f"{_key(package, clock, threads, alone)}.json"
    )
    if (known := _read(path)) is not None:
        return known
    flush = max(_FLUSH, 2 * target.machine.cache_bytes()) if alone else 0
    with tempfile.TemporaryDirectory(prefix="gos_fx_probe_") as folder:
        names = Path(folder) / "names"
        arguments, _ = _files(package, _inputs(package), Path(folder))
        done = qemu.record(
            [
                str(cross_runtime.probe()),
                str(package.library.resolve()),
                str(names),
                str(flush),
                *("--threads", str(threads)),
                *arguments,
            ],
            target,
            "marks",
            guest=_guest_variables(),
            timeout=timeout,
        )
        kernels = kernel_works(clock, done.recording, names.read_text().splitlines())
    _write(path, kernels)
    return kernels


def _key(package: Package, clock: Clock, threads: int, alone: bool) -> str:
    target = package.target
    emulation = emulation_of(target)
    facts = {
        "format": _FORMAT,
        "library": hashlib.sha256(package.library.read_bytes()).hexdigest(),
        "probe": cross_runtime.probe().parent.name,
        "plugin": hashlib.sha256(PLUGIN.read_bytes()).hexdigest(),
        "caches": qemu.cache_options(target.machine),
        "load": target.machine.load_bytes_per_cycle,
        "core": [emulation.qemu_cpu, clock.timer.model, emulation.simd_per_cycle],
        "inputs": [asdict(spec) for spec in package.inputs],
        "threads": threads,
        "alone": alone,
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read(path: Path) -> tuple[KernelWork, ...] | None:
    """A cached result; one that is damaged counts as none."""
    try:
        return tuple(KernelWork(**one) for one in json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, kernels: Sequence[KernelWork]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps([asdict(kernel) for kernel in kernels]))
        os.replace(partial, path)
    except OSError as error:
        raise EmulatorUnavailable(
            f"the cache cannot be written: {error.strerror}",
            where=str(path),
            do="Set GOS_FX_CACHE to a directory that can be written.",
        ) from error


def _inputs(package: Package) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for spec in package.inputs:
        if np.issubdtype(np.dtype(spec.dtype), np.floating):
            yield rng.standard_normal(spec.shape).astype(spec.dtype)
        else:
            yield np.zeros(spec.shape, spec.dtype)


def _guest_variables() -> dict[str, str]:
    """Symbols are bound at the start: else a kernel's first call would count that."""
    return {"LD_LIBRARY_PATH": str(cross_runtime.runtime()), "LD_BIND_NOW": "1"}


def _check_target(package: Package) -> Target:
    if package.target.emulation is None:
        raise PackageError(
            f"there is no emulator for {package.target.name}",
            where=str(package.directory),
            do="Packages for this machine run directly.",
        )
    return package.target


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
    package: Package, inputs: Sequence[np.ndarray] | Iterator[np.ndarray], folder: Path
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
