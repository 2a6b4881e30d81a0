"""``engines/executorch.cpp``, compiled for a machine with zig."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from benchmarks.engine.engines import executorch
from gos_fx.emulator.cache import cached_directory
from gos_fx.kernels import link

_OPTIONS = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-O2", "-w", "-shared")
_MACROS = ("-DC10_USING_CUSTOM_GENERATED_MACROS",)


def variables(packages: Path, triple: str | None) -> dict[str, str]:
    """The variable that :mod:`benchmarks.engine.engines.executorch` asks for.

    Args:
        packages: directory in which ExecuTorch's wheel is installed.
        triple: of the machine, None for this one.

    Raises:
        CompileError: zig failed.
    """
    source = executorch.SOURCE
    include = packages / "executorch" / "include"
    c10 = include / "executorch" / "runtime" / "core" / "portable_type" / "c10"

    def make(folder: Path) -> None:
        link.zig(
            [
                "c++",
                *link.target_arguments(triple),
                *(*_OPTIONS, *_MACROS, f"-I{include}", f"-I{c10}"),
                *("-fPIC", "-s", str(source), "-o", str(folder / "executorch.so")),
            ],
            stage="compile executorch.cpp",
        )

    (wheel,) = packages.glob("executorch-*.dist-info")
    text = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    machine = triple or platform.machine()
    folder = cached_directory(f"engine-executorch-{machine}-{wheel.stem}-{text}", make)
    return {executorch.LIBRARY: str(folder / "executorch.so")}
