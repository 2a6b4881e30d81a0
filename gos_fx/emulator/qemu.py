"""A program run under qemu with the counting plugin."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gos_fx.emulator import tools
from gos_fx.emulator.counts import Recording, read_recording
from gos_fx.emulator.plugin import plugin
from gos_fx.emulator.sysroot import emulation_of, sysroot
from gos_fx.errors import EmulatorUnavailable, ProgramFailed
from gos_fx.targets.target import Machine, Target

# Threads that wait for work sleep at once instead of spinning: libgomp, libomp.
_WAITING = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}


@dataclass(frozen=True)
class Run:
    """What a program counted and printed."""

    recording: Recording
    stdout: bytes
    stderr: bytes


def command(
    target: Target, guest: Mapping[str, str] | None = None, *options: str
) -> list[str]:
    """qemu and its options, to be put before an aarch64 program.

    Args:
        guest: environment variables of the program, beside those of this process.
        options: further ones of qemu.

    Raises:
        EmulatorUnavailable: qemu or the libraries are not to be had, or the target is
            not emulated.
    """
    cpu = emulation_of(target).qemu_cpu
    fixed = [str(tools.find_qemu()), "-cpu", cpu, "-L", str(sysroot(target))]
    set_ = [part for k, v in (guest or {}).items() for part in ("-E", f"{k}={v}")]
    return [*fixed, *set_, *options]


def record(
    program: Sequence[str],
    target: Target,
    region: str,
    *,
    guest: Mapping[str, str] | None = None,
    capture: bool = True,
    timeout: float | None = None,
) -> Run:
    """Run a program and count.

    Args:
        program: path of an aarch64 Linux executable, and its arguments.
        region: the plugin's: "whole", "clock:N" or "marks".
        guest: as of :func:`command`.
        capture: keep what the program prints; else it prints where this process does.
        timeout: seconds.

    Raises:
        EmulatorUnavailable: what is needed is not there, see :func:`command`.
        ProgramFailed: the program failed, is not for aarch64 or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="gos_fx_count_") as folder:
        out = Path(folder) / "counts"
        options = [str(plugin()), f"out={out}", f"region={region}"]
        options += cache_options(target.machine)
        full = [
            *tools.fixed_addresses(),
            *command(
                target, {**_WAITING, **(guest or {})}, "-plugin", ",".join(options)
            ),
            *program,
        ]
        stream = subprocess.PIPE if capture else None
        try:
            done = subprocess.run(
                full,
                stdin=subprocess.DEVNULL if capture else None,
                stdout=stream,
                stderr=stream,
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise ProgramFailed(
                f"the emulated program took longer than {timeout:g} s", where=program[0]
            ) from error
        if done.returncode:
            raise ProgramFailed(_reason(done), where=program[0], do=_advice(program[0]))
        return Run(read_recording(out), done.stdout or b"", done.stderr or b"")


def cache_options(machine: Machine) -> list[str]:
    """The data caches for the plugin: bytes, ways, shared by all cores."""
    levels = [
        (machine.l1d_bytes, machine.l1d_ways, False),
        (machine.l2_bytes, machine.l2_ways, machine.l2_shared),
    ]
    if machine.l3_bytes is not None and machine.l3_ways is not None:
        levels.append((machine.l3_bytes, machine.l3_ways, True))
    each = [f"cache={size}:{ways}:{int(shared)}" for size, ways, shared in levels]
    return [f"line={machine.line_bytes}", *each]


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    said = (done.stderr or b"").decode(errors="replace").splitlines()
    last = next((line for line in reversed(said) if line.strip()), "")
    if "plugin" in last and "bad option" in last:
        raise EmulatorUnavailable(f"qemu's plugin refuses its options: {last}")
    status = f"signal {-done.returncode}" if done.returncode < 0 else done.returncode
    return f"the emulated program failed ({status}): {last or 'no message'}"


def _advice(program: str) -> str:
    if not os.path.exists(program):
        return "There is no such file."
    with open(program, "rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or head[18:20] != b"\xb7\x00":
        return "It is not an executable for 64-bit ARM Linux."
    return ""
