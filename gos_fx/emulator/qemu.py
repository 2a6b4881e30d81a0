"""A program run under qemu with the counting plugin."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gos_fx.emulator import tools
from gos_fx.emulator.counts import Recording, read_recording
from gos_fx.emulator.plugin import plugin
from gos_fx.emulator.sysroot import emulation_of, sysroot
from gos_fx.errors import EmulatorUnavailable, GosError, ProgramFailed
from gos_fx.targets.target import Machine, Target

_STDERR = 2  # itself, whatever sys.stderr is
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
    # qemu takes a comma for the end of a variable; what it inherits, it hands on.
    variables = [f"{name}={value}" for name, value in (guest or {}).items()]
    inherited = [each for each in variables if "," in each]
    given = [part for each in variables if "," not in each for part in ("-E", each)]
    before = ["env", *inherited] if inherited else []
    fixed = [str(tools.find_qemu()), "-cpu", cpu, "-L", str(sysroot(target))]
    return [*before, *fixed, *given, *options]


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
        capture: keep what the program prints; else it goes to standard error.
        timeout: seconds.

    Raises:
        EmulatorUnavailable: what is needed is not there, see :func:`command`.
        ProgramFailed: the program failed, is not for aarch64 or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="gos_fx_count_") as folder:
        out = Path(folder) / "counts"
        options = [str(plugin()), f"out={out}", f"region={region}"]
        options += cache_options(target.machine)
        joined = ",".join(option.replace(",", ",,") for option in options)
        full = [
            *tools.fixed_addresses(),
            *command(target, {**_WAITING, **(guest or {})}, "-plugin", joined),
            *program,
        ]
        status, said, errors = _execute(full, program[0], capture, timeout)
        if status:
            raise _failure(status, errors, program[0])
        return Run(read_recording(out, program[0]), said, errors)


def _execute(
    full: Sequence[str], program: str, capture: bool, timeout: float | None
) -> tuple[int, bytes, bytes]:
    """Exit status and output; in a session of its own, to end all that it starts."""
    stream = subprocess.PIPE if capture else _STDERR
    with subprocess.Popen(
        full,
        stdin=subprocess.DEVNULL if capture else None,
        stdout=stream,
        stderr=stream,
        start_new_session=True,
    ) as process:
        try:
            said, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise ProgramFailed(
                f"the emulated program took longer than {timeout:g} s",
                where=program,
                do="Give it more time, or less to do.",
            ) from error
        except BaseException:  # Ctrl-C does not reach another session
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, said or b"", errors or b""


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


def _failure(status: int, errors: bytes, program: str) -> GosError:
    said = errors.decode(errors="replace").splitlines()
    last = next((line for line in reversed(said) if line.strip()), "")
    if "gos_fx plugin: bad option" in last:
        return EmulatorUnavailable(f"qemu's plugin refuses its options: {last}")
    qemu = tools.find_qemu()
    if not tools.takes_plugins(qemu):
        return EmulatorUnavailable(
            f"{qemu} was built without plugins", do=tools.QEMU_INSTALL
        )
    how = signal.strsignal(-status) if status < 0 else f"exit status {status}"
    end = f": {last}" if last else ""
    return ProgramFailed(
        f"the emulated program failed, {how}{end}", where=program, do=_advice(program)
    )


def _advice(program: str) -> str:
    path = Path(program)
    if not path.exists():
        return "There is no such file."
    try:
        head = path.open("rb").read(20)
    except OSError as error:
        return f"It cannot be read: {error.strerror}."
    if head[:4] != b"\x7fELF" or head[18:20] != b"\xb7\x00":
        return "It is not an executable for 64-bit ARM Linux."
    return ""
