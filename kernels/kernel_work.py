"""Segments that the probe marked -> what each kernel of an inference takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from gos_fx.emulator.counts import Recording, Segment, merge
from gos_fx.emulator.timing import Clock, Work
from gos_fx.errors import EmulatorUnavailable

# What ended a segment, as probe.cpp numbers it.
_OUTSIDE, _RUNTIME, _SERIAL, _TASK, _WHOLE = range(5)
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
    works = iter(clock.work(recording, [merge([s]) for g in groups for s in g]))
    timed = [[(segment.number, next(works)) for segment in group] for group in groups]
    every = [
        (name, _kernel(name, parts), _sum(parts))
        for name, parts in zip(names, timed[2:])
    ]
    mine = [(kernel, work) for name, kernel, work in every if not _is_builtin(name)]
    rest = [work for name, _, work in every if _is_builtin(name)]
    runtime = _sum(timed[1])
    for work in rest:
        runtime = runtime.plus(work)
    if whole:  # what the virtual machine does without being asked for marks
        runtime = _sum(timed[0])
        for _, work in mine:
            runtime = runtime.minus(work)
    serial = max(0.0, runtime.cycles)
    last = KernelWork(
        RUNTIME,
        max(0, runtime.instructions),
        max(0, runtime.l1d_misses),
        max(0, runtime.lines),
        serial,
        0.0,
    )
    return (*(kernel for kernel, _ in mine), last)


@dataclass(frozen=True)
class _Total:
    instructions: int = 0
    l1d_misses: int = 0
    lines: int = 0
    cycles: float = 0.0

    def plus(self, other: _Total) -> _Total:
        return _Total(*(a + b for a, b in zip(astuple(self), astuple(other))))

    def minus(self, other: _Total) -> _Total:
        return _Total(*(a - b for a, b in zip(astuple(self), astuple(other))))


def _sum(parts: Sequence[tuple[int, Work]]) -> _Total:
    works = [work for _, work in parts]
    return _Total(
        sum(work.instructions for work in works),
        sum(work.misses[0] for work in works),
        sum(work.lines for work in works),
        sum(work.cycles for work in works),
    )


def _kernel(name: str, parts: Sequence[tuple[int, Work]]) -> KernelWork:
    total = _sum(parts)
    tasks = [work.cycles for number, work in parts if number == _TASK]
    return KernelWork(
        function=name,
        instructions=total.instructions,
        l1d_misses=total.l1d_misses,
        lines=total.lines,
        serial=sum(work.cycles for number, work in parts if number != _TASK),
        parallel=_busiest(tasks, [number for number, _ in parts]),
    )


def _is_builtin(name: str) -> bool:
    return name.startswith("vm.builtin.")


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


def _busiest(tasks: Sequence[float], numbers: Sequence[int]) -> float:
    """Cycles of the longest task of each parallel loop, over the loops of a kernel."""
    longest, current, left = 0.0, 0.0, iter(tasks)
    for number in numbers:
        if number == _TASK:
            current = max(current, next(left))
        else:
            longest, current = longest + current, 0.0
    return longest + current
