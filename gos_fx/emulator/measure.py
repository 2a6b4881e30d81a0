"""Any aarch64 Linux program on the virtual board."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from gos_fx.emulator import tools
from gos_fx.emulator.counts import Recording, Segment, ThreadCounts, merge
from gos_fx.emulator.qemu import record
from gos_fx.emulator.sysroot import emulation_of
from gos_fx.emulator.timing import Clock
from gos_fx.errors import BadOption, ProgramFailed
from gos_fx.targets.target import Target

_REGION = re.compile(r"auto|whole|clock:([1-9]\d*)")


@dataclass(frozen=True)
class Emulated:
    """A region of a program, counted, and its latency on the target.

    Attributes:
        region: what was counted: "whole", or "clock:N", between calls N and N+1 of
            ``clock_gettime`` of one thread.
        instructions, l1d_misses, l2_misses, l3_misses: of all threads; ``l3_misses``
            is None where the target has no L3.
        writebacks: dirty lines that left the last cache level.
        cycles: of the issue model, all threads together.
        busiest_cycles: of the core that has most of them; what the latency follows.
        working_threads: threads of the program that did work in the region.
        division: how the cycles are divided among the cores: "one thread", "evenly"
            (assumed), or "by thread" (as the program's threads had them).
        latency_s, latency_error: seconds, and the half width in which the board's own
            latency is believed to be.
        source: what the constants were fitted on.
        issue_model: what timed the blocks, with its version.
        qemu, llvm: versions.
    """

    target: str
    threads: int
    region: str
    instructions: int
    l1d_misses: int
    l2_misses: int
    l3_misses: int | None
    writebacks: int
    cycles: float
    busiest_cycles: float
    working_threads: int
    division: str
    latency_s: float
    latency_error: float
    source: str
    issue_model: str
    qemu: str
    llvm: str

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def measure(
    program: Sequence[str],
    target: Target,
    *,
    threads: int = 1,
    region: str = "auto",
    guest: Mapping[str, str] | None = None,
    capture: bool = True,
    timeout: float | None = None,
) -> Emulated:
    """Count a program's region and say how long the target takes for it.

    Args:
        program: path of an aarch64 Linux executable, and its arguments.
        threads: cores that the program has; it must start its threads itself.
        region: "auto", "whole" or "clock:N"; "auto" is "clock:1" if a thread calls the
            clock twice, else "whole".
        guest: environment variables of the program, beside those of this process.
        capture: swallow what the program prints; else it goes to standard error.
        timeout: seconds.

    Raises:
        BadOption: no such region, or more threads than the target has cores.
        EmulatorUnavailable: qemu, LLVM or libraries are missing; says how to install.
        ProgramFailed: the program failed, or never reached the region.
    """
    match = _REGION.fullmatch(region)
    if match is None:
        raise BadOption(
            f"there is no region {region!r}",
            where="region",
            do="Give auto, whole, or clock:N for the time between calls N and N+1 of "
            "clock_gettime.",
        )
    if not 1 <= threads <= target.machine.cores:
        raise BadOption(
            f"{threads} threads on {target.machine.cores} cores",
            where="threads",
            do=f"{target.name} has {target.machine.cores} cores.",
        )
    call = int(match[1] or 1)
    clock = Clock(target)  # before the run: what is missing is said at once
    plugin_region = "whole" if region == "whole" else f"clock:{call}"
    run = record(
        program, target, plugin_region, guest=guest, capture=capture, timeout=timeout
    )
    found = clock_region(run.recording, call) if region != "whole" else None
    if found is None and region not in ("auto", "whole"):
        raise ProgramFailed(
            f"no thread of the program calls clock_gettime {call + 1} times",
            where=program[0],
            do="Use --region whole.",
        )
    counts = merge(run.recording.segments if found is None else found)
    return _emulated(
        clock,
        run.recording,
        counts,
        threads,
        "whole" if found is None else f"clock:{call}",
    )


def clock_region(recording: Recording, call: int) -> list[Segment] | None:
    """Segments between calls ``call`` and ``call + 1`` of the first thread that makes
    both; None where there is none."""
    opened: dict[int, int] = {}
    for i, segment in enumerate(recording.segments):
        if segment.event != "clock":
            continue
        if segment.number == call:
            opened[segment.thread] = i
        elif segment.number == call + 1:
            return list(recording.segments[opened[segment.thread] + 1 : i + 1])
    return None


def _emulated(
    clock: Clock,
    recording: Recording,
    counts: Mapping[int, ThreadCounts],
    threads: int,
    region: str,
) -> Emulated:
    (work,) = clock.work(recording, [counts])
    latency = clock.latency(work, threads)
    division = "by thread" if work.threads > 1 else "evenly"
    return Emulated(
        target=clock.target.name,
        threads=threads,
        region=region,
        instructions=work.instructions,
        l1d_misses=work.misses[0],
        l2_misses=work.misses[1],
        l3_misses=work.misses[2] if len(work.misses) > 2 else None,
        writebacks=work.writebacks,
        cycles=work.cycles,
        busiest_cycles=work.critical(threads),
        working_threads=work.threads,
        division=division if threads > 1 else "one thread",
        latency_s=latency.seconds,
        latency_error=latency.error,
        source=emulation_of(clock.target).fit(threads).source,
        issue_model=clock.timer.model,
        qemu=tools.qemu_version(tools.find_qemu()),
        llvm=clock.timer.version,
    )
