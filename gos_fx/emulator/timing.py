"""From what was counted to seconds on the board, by the target's fitted constants.

    cycles of a block = own pipeline's, or
                        max(llvm-mca, SIMD / simd_per_cycle, 64-bit words / load path)
    seconds = issue * cycles of the busiest core / clock + line_s * lines

See :class:`gos_fx.targets.target.Emulation` and ``Fit``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gos_fx.emulator.counts import Recording, ThreadCounts
from gos_fx.emulator.mca import BlockCycles, BlockTimer
from gos_fx.emulator.sysroot import emulation_of
from gos_fx.targets.target import Target

# A block that is executed so rarely that all such blocks together are below this part
# of the instructions is not timed; it is given the mean of the others.
_UNTIMED = 1e-4
# A thread works if it has this part of the busiest thread's cycles.
_WORKS = 0.01
_WORD = 8  # bytes


@dataclass(frozen=True)
class Work:
    """What a part of a program takes, before any constant of a board.

    Attributes:
        instructions: executed by all threads.
        misses: of each cache level, the first level first; all threads.
        writebacks: dirty lines that left the last level; all threads.
        cycles: of the issue model, all threads together.
        busiest: cycles of the thread that has most.
        threads: how many threads work.
    """

    instructions: int
    misses: tuple[int, ...]
    writebacks: int
    cycles: float
    busiest: float
    threads: int

    @property
    def lines(self) -> int:
        """Cache lines from and to DRAM."""
        return (self.misses[-1] if self.misses else 0) + self.writebacks

    def critical(self, cores: int) -> float:
        """Cycles of the core that is busy longest.

        Work of one thread is taken to divide evenly; that of several is as it is, but
        cores that are fewer than the threads share them.
        """
        even = self.cycles / cores
        return even if self.threads == 1 else max(self.busiest, even)


@dataclass(frozen=True)
class Latency:
    """Seconds, and the parts of their error, in seconds (see ``Fit``)."""

    seconds: float
    error: float
    noise: float


class Clock:
    """Counts -> work, for one target. Times each block once."""

    def __init__(self, target: Target) -> None:
        emulation = emulation_of(target)
        self.target, self.emulation = target, emulation
        self.timer = BlockTimer(
            emulation.mca_cpu, emulation.llvm, emulation.own_pipeline
        )
        self._words_per_cycle = target.machine.load_bytes_per_cycle / _WORD

    def work(
        self, recording: Recording, parts: list[Mapping[int, ThreadCounts]]
    ) -> list[Work]:
        """The work of each part; a part gives each thread's counts.

        Raises:
            EmulatorUnavailable: llvm-mca is not there or does not know an instruction.
        """
        code = recording.code
        total: dict[int, int] = {}
        for threads in parts:
            for counts in threads.values():
                for block, count in counts.blocks.items():
                    executed = count * (len(code[block]) // 4)
                    total[block] = total.get(block, 0) + executed
        cycles = self._cycles(code, total)
        return [_work(recording, threads, cycles) for threads in parts]

    def latency(self, work: Work, threads: int) -> Latency:
        """On so many cores of the target."""
        fit = self.emulation.fit(threads)
        busy = work.critical(threads) / self.target.machine.clock_hz
        seconds = fit.issue * busy + fit.line_s * work.lines
        return Latency(seconds, fit.error * seconds, fit.noise * seconds)

    def _cycles(
        self, code: tuple[bytes, ...], executed: Mapping[int, int]
    ) -> dict[int, float]:
        """Cycles of each block, from its instructions executed in all."""
        ranked = sorted(executed, key=lambda block: (-executed[block], block))
        every = sum(executed.values())
        timed, seen = [], 0
        for block in ranked:
            if seen >= (1 - _UNTIMED) * every:
                break
            timed.append(block)
            seen += executed[block]
        found = self.timer.cycles(code[block] for block in timed)
        cycles = {block: self._of(found[code[block]]) for block in timed}
        spent = sum(cycles[b] * executed[b] / (len(code[b]) // 4) for b in timed)
        mean = spent / seen if seen else 1.0
        return {b: cycles.get(b, mean * (len(code[b]) // 4)) for b in executed}

    def _of(self, block: BlockCycles) -> float:
        if self.emulation.own_pipeline:
            return block.model  # it knows what is issued together
        simd = block.simd / self.emulation.simd_per_cycle
        return max(block.model, simd, block.words / self._words_per_cycle)


def _work(
    recording: Recording,
    threads: Mapping[int, ThreadCounts],
    cycles: Mapping[int, float],
) -> Work:
    each = [
        sum(count * cycles[block] for block, count in counts.blocks.items())
        for counts in threads.values()
    ]
    busiest = max(each, default=0.0)
    misses = [counts.misses for counts in threads.values()]
    return Work(
        instructions=sum(map(recording.instructions, threads.values())),
        misses=tuple(map(sum, zip(*misses, strict=True))),
        writebacks=sum(counts.writebacks for counts in threads.values()),
        cycles=sum(each),
        busiest=busiest,
        threads=max(1, sum(one >= _WORKS * busiest > 0 for one in each)),
    )
