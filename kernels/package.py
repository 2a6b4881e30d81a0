"""Packages: a compiled network in a directory that runs on the board.

``model.so``, ``manifest.json``, ``run.py`` (Python with apache-tvm and numpy) and
``driver.cpp`` (C++). Loading one checks it and runs nothing of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gos_fx.errors import BadOption, PackageError
from gos_fx.targets.record import target_from_json, target_to_json
from gos_fx.targets.target import Target

FORMAT = 1
RUNTIME = Path(__file__).parent / "runtime"
_VERSIONED = ("apache-tvm", "apache-tvm-ffi", "torch", "gos_fx")
_KEYS = ("format", "target", "machine", "threads", "inputs", "outputs", "versions")


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype (``"float32"``, ...) of an input or an output."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @staticmethod
    def of(name: str, tensor: Tensor) -> TensorSpec:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return TensorSpec(name, tuple(tensor.shape), dtype)

    @property
    def torch_dtype(self) -> torch.dtype:
        found = getattr(torch, self.dtype, None)
        if not isinstance(found, torch.dtype):
            raise PackageError(f"unknown dtype {self.dtype!r}", where=self.name)
        return found


@dataclass(frozen=True)
class Package:
    """A package on disk whose files are those that were packaged."""

    directory: Path
    target: Target
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    threads: int
    manifest: dict[str, Any]

    @property
    def library(self) -> Path:
        return self.directory / "model.so"


def save_package(
    directory: Path,
    library: Path,
    target: Target,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    threads: int,
    extra: dict[str, str] | None = None,
    memory: Mapping[str, int] | None = None,
    kernels: Sequence[Mapping[str, str]] = (),
) -> Package:
    """Write a package.

    Args:
        directory: made if it is not there; files of these names are replaced.
        library: the ``model.so`` of a build.
        extra: further text files by name, for instance the operators' graphs.
        memory: bytes that the build found.
        kernels: functions that an inference calls and their operators, in order.

    Raises:
        PackageError: the directory cannot be written, or a name is not a plain one.
    """
    for name in extra or {}:
        _plain(name, directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if library.resolve() != (directory / "model.so").resolve():
            shutil.copyfile(library, directory / "model.so")
        for name in ("run.py", "driver.cpp"):
            shutil.copyfile(RUNTIME / name, directory / name)
        for name, text in (extra or {}).items():
            (directory / name).write_text(text)
        names = ("model.so", "run.py", "driver.cpp", *(extra or {}))
        manifest = {
            "format": FORMAT,
            "target": target_to_json(target),
            "machine": _machine(target),
            "threads": threads,
            "inputs": [asdict(spec) for spec in inputs],
            "outputs": [asdict(spec) for spec in outputs],
            "versions": {name: metadata.version(name) for name in _VERSIONED},
            "memory": None if memory is None else dict(memory),
            "kernels": [dict(kernel) for kernel in kernels],
            "files": {name: _sha256(directory / name) for name in names},
        }
        partial = directory / "manifest.json.partial"
        partial.write_text(json.dumps(manifest, indent=1) + "\n")
        os.replace(partial, directory / "manifest.json")
    except OSError as error:
        raise PackageError(
            f"the package cannot be written: {error.strerror}", where=str(directory)
        ) from error
    return load_package(directory)


def load_package(directory: Path) -> Package:
    """The package in a directory, every file compared with its SHA-256.

    Raises:
        PackageError: no manifest, one of another format, a file missing, changed, or
            outside of the directory.
    """
    path = directory / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PackageError(
            "no readable manifest.json", where=str(directory), do="Save it again."
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise PackageError(
            f"package format {found!r} is not {FORMAT}",
            where=str(path),
            do="Save it again with this version of gos_fx.",
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or "model.so" not in files:
        raise PackageError("the manifest lists no model.so", where=str(path))
    for name, digest in files.items():
        _check_file(directory, name, digest)
    try:
        return _package(directory, manifest)
    except BadOption as error:
        raise PackageError(error.what, where=str(path)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise PackageError(f"the manifest lacks {error}", where=str(path)) from error


def _package(directory: Path, manifest: dict[str, Any]) -> Package:
    missing = [key for key in _KEYS if key not in manifest]
    if missing:
        raise KeyError(missing[0])

    def specs(key: str) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(str(s["name"]), tuple(map(int, s["shape"])), str(s["dtype"]))
            for s in manifest[key]
        )

    return Package(
        directory=directory,
        target=target_from_json(manifest["target"]),
        inputs=specs("inputs"),
        outputs=specs("outputs"),
        threads=int(manifest["threads"]),
        manifest=manifest,
    )


def _plain(name: str, directory: Path) -> Path:
    path = directory / name
    if Path(name).name != name or path.is_symlink():
        raise PackageError(f"{name!r} is not a file of the package", str(directory))
    return path


def _check_file(directory: Path, name: str, digest: str) -> None:
    path = _plain(name, directory)
    if not path.is_file():
        raise PackageError(f"{name} is missing", where=str(directory))
    if _sha256(path) != digest:
        raise PackageError(
            f"{name} is not the file that was packaged",
            where=str(directory),
            do="Save the package again, or copy it again.",
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _machine(target: Target) -> str:
    """The architecture as ``platform.machine()`` says it on the board."""
    return (target.link_triple or platform.machine()).split("-")[0]
