"""Segments that the probe marked -> what each kernel of an inference takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gos_fx.emulator.counts import Recording, Segment, ThreadCounts, merge
from gos_fx.emulator.timing import Clock, Work
from gos_fx.errors import EmulatorUnavailable

# What ended a segment, as probe.cpp numbers it.
_OUTSIDE, _RUNTIME, _SERIAL, _TASK, _WHOLE = range(5)
_BUILTIN = "vm.builtin."
# Name of what the virtual machine does between the kernels.
RUNTIME = "runtime"


@dataclass(frozen=True)
class KernelWork:
    """One kernel of an inference, or all of the runtime between kernels.

    Attributes:
        function: name of the compiled function; "runtime" for the rest.
        instructions, l1d_misses: of all threads.
        lines: cache lines from and to DRAM, of all threads.
        serial: cycles of the issue model outside of parallel loops.
        parallel: cycles of the busiest thread inside of them.
    """

    function: str
    instructions: int
    l1d_misses: int
    lines: int
    serial: float
    parallel: float


def kernel_works(
    clock: Clock, recording: Recording, names: Sequence[str]
) -> tuple[KernelWork, ...]:
    """The kernels of a run of the probe in order of execution, and last the runtime.

    Args:
        recording: with marks.
        names: of the functions that were called, in order.

    Raises:
        EmulatorUnavailable: names and marks do not fit, or a block cannot be timed.
    """
    whole, between, calls = _sorted(recording.segments)
    if len(calls) != len(names):
        raise EmulatorUnavailable(
            f"{len(names)} kernels were named and {len(calls)} counted",
            do="Report this: a kernel calls another function of the network.",
        )
    # Blocks are timed all at once; then each segment is looked at alone.
    groups = [whole, between, *calls]
    flat = [
        (segment, part) for g in groups for segment in g for part in _split(segment)
    ]
    works = iter(clock.work(recording, [part for _, part in flat]))
    timed = [[_Part(s.number, next(works), next(works)) for s in g] for g in groups]
    mine = [
        (name, parts)
        for name, parts in zip(names, timed[2:])
        if not name.startswith(_BUILTIN)
    ]
    builtin = [
        part
        for name, parts in zip(names, timed[2:])
        if name.startswith(_BUILTIN)
        for part in parts
    ]
    last = _kernel(RUNTIME, [*timed[1], *builtin])
    if whole:  # what the virtual machine does without being asked for marks
        kernels = [part.main for _, parts in mine for part in parts]
        all_ = [part.main for part in timed[0]]
        cycles = sum(w.cycles for w in all_) - sum(w.cycles for w in kernels)
        count = sum(w.instructions for w in all_) - sum(w.instructions for w in kernels)
        last = replace(last, instructions=max(0, count), serial=max(0.0, cycles))
    return (
        *(_kernel(name, parts) for name, parts in mine),
        replace(last, parallel=0.0),
    )


@dataclass(frozen=True)
class _Part:
    """A segment: the work of the thread that set the mark, and that of the others."""

    number: int
    main: Work
    others: Work


def _split(segment: Segment) -> tuple[dict[int, ThreadCounts], dict[int, ThreadCounts]]:
    counts = merge([segment])
    main = {segment.thread: counts.pop(segment.thread)}
    return main, counts


def _kernel(name: str, parts: Sequence[_Part]) -> KernelWork:
    """With one thread parallel loops have marks; with several, the first thread has a
    part of them like the others, and what it does beyond that is serial."""
    works = [work for part in parts for work in (part.main, part.others)]
    parallel, serial = 0.0, 0.0
    for part in parts:
        if part.number == _TASK:
            parallel += part.main.cycles
        else:
            parallel += part.others.busiest
            serial += max(0.0, part.main.cycles - part.others.busiest)
    return KernelWork(
        function=name,
        instructions=sum(work.instructions for work in works),
        l1d_misses=sum(work.misses[0] for work in works if work.misses),
        lines=sum(work.lines for work in works),
        serial=serial,
        parallel=parallel,
    )


def _sorted(
    segments: Sequence[Segment],
) -> tuple[list[Segment], list[Segment], list[list[Segment]]]:
    """The inference marked as a whole, what lies between calls, and the calls."""
    whole: list[Segment] = []
    between: list[Segment] = []
    calls: list[list[Segment]] = []
    begins = True
    for segment in segments:
        if segment.event != "mark" or segment.number == _OUTSIDE:
            continue
        if segment.number == _WHOLE:
            whole.append(segment)
            continue
        if segment.number == _RUNTIME:
            between.append(segment)
        else:
            if begins:
                calls.append([])
            calls[-1].append(segment)
        begins = segment.number == _RUNTIME
    return whole, between, calls
