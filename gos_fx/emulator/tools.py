"""The programs that the emulator needs, found or refused with the package's name."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gos_fx.errors import EmulatorUnavailable

LLVM = 19  # the scheduling models differ from version to version
QEMU_INSTALL = "Debian: apt-get install qemu-user"
LLVM_INSTALL = f"Debian: apt-get install llvm-{LLVM}"
_PERSONALITY = ("setarch", "--addr-no-randomize")


def find_qemu() -> Path:
    """qemu-aarch64 of user mode.

    Raises:
        EmulatorUnavailable: it is not installed.
    """
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if found is None:
        raise EmulatorUnavailable("qemu-aarch64 is not installed", do=QEMU_INSTALL)
    return Path(found)


@functools.cache
def qemu_version(qemu: Path) -> str:
    """What ``qemu-aarch64 --version`` calls itself, for instance "7.2.22"."""
    done = _output([str(qemu), "--version"])
    match = re.search(r"version (\S+)", done)
    return match.group(1) if match else "unknown"


@functools.cache
def takes_plugins(qemu: Path) -> bool:
    """Whether it was built with plugins; static builds are not."""
    return "-plugin" in _output([str(qemu), "--help"])


def find_llvm(name: str, version: int = LLVM) -> Path:
    """A program of this major version of LLVM: ``llvm-mca`` or ``llvm-mc``.

    Raises:
        EmulatorUnavailable: it is not installed, or only another version is.
    """
    wrong = ""
    for candidate in (f"{name}-{version}", f"/usr/lib/llvm-{version}/bin/{name}", name):
        found = shutil.which(candidate)
        if found is None:
            continue
        have = llvm_version(Path(found))
        if have.split(".")[0] == str(version):
            return Path(found)
        wrong = f"; {found} is version {have}"
    raise EmulatorUnavailable(
        f"{name} of LLVM {version} is not installed{wrong}",
        do=f"Debian: apt-get install llvm-{version}",
    )


@functools.cache
def llvm_version(program: Path) -> str:
    """Full version of a program of LLVM, for instance "19.1.7"."""
    match = re.search(r"LLVM version (\S+)", _output([str(program), "--version"]))
    return match.group(1) if match else "unknown"


@functools.cache
def fixed_addresses() -> tuple[str, ...]:
    """What makes a command's addresses the same in every run; empty where not allowed.

    Without it counts of cache misses differ by some hundredths of a per cent from run
    to run. Some containers forbid it.
    """
    if shutil.which(_PERSONALITY[0]) is None:
        return ()
    done = subprocess.run([*_PERSONALITY, "true"], capture_output=True, check=False)
    return _PERSONALITY if done.returncode == 0 else ()


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout
