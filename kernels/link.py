"""Linking with zig, which brings its own linker and C library: no root, no gcc."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gos_fx.errors import CompileError


def zig(arguments: Sequence[str], stage: str) -> None:
    """Run ``python -m ziglang`` with these arguments.

    Raises:
        CompileError: it failed; the message has what it said first.
    """
    command = [sys.executable, "-m", "ziglang", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line]
        detail = (said or done.stderr.splitlines() or ["no message"])[0]
        raise CompileError(
            f"{stage} failed: {detail}",
            where=" ".join(arguments[:3]),
            do="The linker is the package ziglang: pip install ziglang",
        )


def target_arguments(triple: str | None) -> list[str]:
    """``-target``, or nothing for this machine."""
    return [] if triple is None else ["-target", triple]


def shared_library_linker(triple: str | None) -> Callable[..., None]:
    """What ``export_library(fcompile=...)`` calls to link objects."""

    def link(output: str, objects: Sequence[str], **_: object) -> None:
        zig(
            [
                "cc",
                *target_arguments(triple),
                "-shared",
                "-o",
                output,
                *objects,
                "-s",
                "-Wl,--gc-sections",
            ],
            stage="link",
        )

    link.output_format = "so"  # type: ignore[attr-defined]
    return link


def program(
    source: Path,
    output: Path,
    triple: str | None,
    includes: Sequence[Path],
    libraries: Sequence[Path],
) -> None:
    """Compile one C++ file and link it with shared libraries.

    The file must not need the C++ library, which zig would first build for a minute.

    Raises:
        CompileError: the compiler or the linker failed.
    """
    zig(
        [
            "cc",
            *target_arguments(triple),
            *("-std=c++17", "-fno-exceptions", "-fno-rtti", "-O1"),
            *(f"-I{path}" for path in includes),
            *("-x", "c++", str(source), "-x", "none"),
            "-Wl,--no-as-needed",
            *map(str, libraries),
            "-o",
            str(output),
        ],
        stage="compile driver",
    )


def library(
    source: Path, output: Path, triple: str | None, includes: Sequence[Path]
) -> None:
    """Compile one C++ file to a shared library; undefined symbols stay so.

    The file must not need the C++ library.

    Raises:
        CompileError: the compiler or the linker failed.
    """
    zig(
        [
            "cc",
            *target_arguments(triple),
            *("-std=c++17", "-fno-exceptions", "-fno-rtti", "-nostdlib++", "-O2"),
            *(f"-I{path}" for path in includes),
            *("-shared", "-fPIC", "-s", "-x", "c++", str(source)),
            *("-o", str(output)),
        ],
        stage="compile library",
    )
