"""What the plugin counted, as it wrote it down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gos_fx.errors import ProgramFailed


@dataclass
class ThreadCounts:
    """One thread's part of a segment.

    Attributes:
        blocks: index of a block -> how often it was executed.
        misses: of each cache level, the first level first.
        writebacks: dirty lines that left the last level.
    """

    blocks: dict[int, int] = field(default_factory=dict)
    misses: tuple[int, ...] = ()
    writebacks: int = 0

    def add(self, other: ThreadCounts) -> None:
        """Count the other's as well."""
        for block, count in other.blocks.items():
            self.blocks[block] = self.blocks.get(block, 0) + count
        mine = self.misses or (0,) * len(other.misses)
        self.misses = tuple(a + b for a, b in zip(mine, other.misses, strict=True))
        self.writebacks += other.writebacks


@dataclass(frozen=True)
class Segment:
    """What was executed up to an event of the program, since the event before.

    Attributes:
        event: "clock", "mark" or "exit".
        thread: whose event it was.
        number: of the call of the clock, or the mark's own.
        threads: thread -> its counts.
    """

    event: str
    thread: int
    number: int
    threads: Mapping[int, ThreadCounts]


@dataclass(frozen=True)
class Recording:
    """All segments of a run, and the code of the blocks by index."""

    segments: tuple[Segment, ...]
    code: tuple[bytes, ...]

    def instructions(self, counts: ThreadCounts) -> int:
        """Executed instructions."""
        return sum(n * len(self.code[b]) // 4 for b, n in counts.blocks.items())


def merge(segments: Iterable[Segment]) -> dict[int, ThreadCounts]:
    """The sum of segments, by thread."""
    threads: dict[int, ThreadCounts] = {}
    for segment in segments:
        for thread, counts in segment.threads.items():
            threads.setdefault(thread, ThreadCounts()).add(counts)
    return threads


def read_recording(path: Path, program: str = "") -> Recording:
    """The plugin's file.

    Raises:
        ProgramFailed: it is not there or not whole.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    if not lines or lines[-1] != "END":
        raise ProgramFailed(
            "the plugin could not finish its report",
            where=program,
            do="The program was killed, or replaced itself by another one.",
        )
    segments: list[Segment] = []
    code: list[bytes] = []
    threads: dict[int, ThreadCounts] = {}
    counts = ThreadCounts()
    for line in lines[:-1]:
        kind, *fields = line.split()
        if kind == "C":
            counts.blocks[int(fields[0])] = int(fields[1])
        elif kind == "T":
            thread, writebacks, *misses = map(int, fields)
            counts = ThreadCounts({}, tuple(misses), writebacks)
            threads[thread] = counts
        elif kind == "S":
            threads = {}
            event, thread, number = fields[0], int(fields[1]), int(fields[2])
            segments.append(Segment(event, thread, number, threads))
        else:
            code.append(bytes.fromhex(fields[1]))
    return Recording(tuple(segments), tuple(code))
