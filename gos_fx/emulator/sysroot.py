"""The file tree that an emulated program sees: a board's, not this machine's.

qemu looks up absolute paths of the program below its ``-L`` directory first. The tree
there holds the C and C++ libraries of an aarch64 Linux and the files of /proc and /sys
from which libraries learn what core they run on and how large its caches are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from gos_fx import config
from gos_fx.emulator.cache import cached_directory
from gos_fx.errors import EmulatorUnavailable
from gos_fx.targets.target import Emulation, Machine, Target

_SYSTEM = Path("/usr/aarch64-linux-gnu")
_FILES = ("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libstdc++.so.6")
DEBIAN_PACKAGES = (
    "libc6-arm64-cross",
    "libstdc++6-arm64-cross",
    "libgcc-s1-arm64-cross",
)
_CACHED = "sysroot-aarch64"
_CPU = "sys/devices/system/cpu"


def libraries() -> Path:
    """Directory with ``lib/ld-linux-aarch64.so.1`` and the C and C++ libraries.

    Raises:
        EmulatorUnavailable: it is not installed and cannot be fetched.
    """
    there = libraries_there()
    if there is not None:
        return there
    return cached_directory(_CACHED, _fetch) / "usr" / "aarch64-linux-gnu"


def libraries_there() -> Path | None:
    """The same directory where nothing needs to be fetched, else None."""
    fetched = config.cache_dir() / _CACHED / "usr" / "aarch64-linux-gnu"
    return next((root for root in (_SYSTEM, fetched) if _has_libraries(root)), None)


def sysroot(target: Target) -> Path:
    """The tree for a target.

    Raises:
        EmulatorUnavailable: the libraries cannot be had, or there is no emulation.
    """
    emulation = emulation_of(target)
    files = board_files(target.machine, emulation)
    root = libraries()
    facts = json.dumps([sorted(files.items()), str(root)])
    digest = hashlib.sha256(facts.encode()).hexdigest()[:12]

    def make(folder: Path) -> None:
        (folder / "lib").symlink_to(root / "lib")
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return cached_directory(f"board-{digest}", make)


def emulation_of(target: Target) -> Emulation:
    """How the target is emulated.

    Raises:
        EmulatorUnavailable: it is not.
    """
    if target.emulation is None:
        raise EmulatorUnavailable(
            f"there is no emulator for {target.name}",
            where=f"target {target.name}",
            do="Code for this machine is measured by the source host.",
        )
    return target.emulation


def board_files(machine: Machine, emulation: Emulation) -> dict[str, str]:
    """Path below the root -> content, as Linux on the board shows it."""
    files = {"proc/cpuinfo": _cpuinfo(machine, emulation)}
    for name in ("possible", "present", "online"):
        files[f"{_CPU}/{name}"] = f"0-{machine.cores - 1}\n"
    for core in range(machine.cores):
        for name, text in _core_files(core, machine, emulation).items():
            files[f"{_CPU}/cpu{core}/{name}"] = f"{text}\n"
    return files


def _cpuinfo(machine: Machine, emulation: Emulation) -> str:
    midr = emulation.midr
    fields = {
        "BogoMIPS": "38.40",
        "Features": emulation.hwcaps,
        "CPU implementer": f"{midr >> 24:#04x}",
        "CPU architecture": "8",
        "CPU variant": f"{midr >> 20 & 0xF:#x}",
        "CPU part": f"{midr >> 4 & 0xFFF:#05x}",
        "CPU revision": f"{midr & 0xF}",
    }
    lines = "".join(f"{name}\t: {value}\n" for name, value in fields.items())
    return "".join(f"processor\t: {i}\n{lines}\n" for i in range(machine.cores))


def _core_files(core: int, machine: Machine, emulation: Emulation) -> dict[str, str]:
    khz = f"{machine.clock_hz / 1e3:.0f}"
    every = f"0-{machine.cores - 1}"
    files = {
        "regs/identification/midr_el1": f"{emulation.midr:#018x}",
        "topology/physical_package_id": "0",
        "topology/core_id": f"{core}",
        "topology/core_siblings_list": every,
        "topology/core_siblings": f"{(1 << machine.cores) - 1:x}",
        "topology/thread_siblings_list": f"{core}",
        "topology/thread_siblings": f"{1 << core:x}",
        "cpu_capacity": "1024",
    }
    for name in ("cpuinfo", "scaling"):
        files[f"cpufreq/{name}_max_freq"] = khz
        files[f"cpufreq/{name}_min_freq"] = khz
        files[f"cpufreq/{name}_cur_freq"] = khz
    l1 = (machine.l1d_bytes, machine.l1d_ways, f"{core}")
    l2 = (machine.l2_bytes, machine.l2_ways, every if machine.l2_shared else f"{core}")
    caches = [("1", "Data", *l1), ("1", "Instruction", *l1), ("2", "Unified", *l2)]
    if machine.l3_bytes is not None and machine.l3_ways is not None:
        caches.append(("3", "Unified", machine.l3_bytes, machine.l3_ways, every))
    for i, (level, kind, size, ways, shared) in enumerate(caches):
        cache = {
            "level": level,
            "type": kind,
            "size": f"{size >> 10}K",
            "ways_of_associativity": f"{ways}",
            "coherency_line_size": f"{machine.line_bytes}",
            "number_of_sets": f"{size // (ways * machine.line_bytes)}",
            "shared_cpu_list": shared,
            "shared_cpu_map": f"{_mask(shared):x}",
        }
        files |= {f"cache/index{i}/{name}": text for name, text in cache.items()}
    return files


def _mask(cores: str) -> int:
    """``0-3`` or ``2`` as bits."""
    first, _, last = cores.partition("-")
    return sum(1 << core for core in range(int(first), int(last or first) + 1))


def _has_libraries(root: Path) -> bool:
    return all((root / "lib" / name).exists() for name in _FILES)


def _fetch(folder: Path) -> None:
    install = f"Debian: apt-get install {' '.join(DEBIAN_PACKAGES)}"
    tools = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if tools:
        raise EmulatorUnavailable(
            "the aarch64 C library is not installed",
            where=str(_SYSTEM),
            do=f"{install}; other systems: put such a tree there.",
        )
    with tempfile.TemporaryDirectory(dir=folder.parent) as downloads:
        _run(["apt-get", "download", *DEBIAN_PACKAGES], Path(downloads), install)
        for archive in Path(downloads).glob("*.deb"):
            _run(["dpkg-deb", "-x", str(archive), str(folder)], folder, install)
    if not _has_libraries(folder / "usr" / "aarch64-linux-gnu"):
        raise EmulatorUnavailable("Debian's packages lack the libraries", do=install)


def _run(command: list[str], folder: Path, remedy: str) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise EmulatorUnavailable(
            f"{' '.join(command[:2])} failed: {said[-1] if said else 'no message'}",
            do=remedy,
        )
