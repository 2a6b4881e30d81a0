"""The Snapdragon 845's constants: a prior from other out-of-order boards, narrowed by
public latencies of the chip and of its core.

Seconds of a program on n of the big cores, from counts of one thread:

    issue * cycles / (clock * n) + line_s(n) * lines

with line_s(n) linear between one thread and four, as a target's record interpolates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration.boards import COUNTS, FOLDER, out_of_order, rows
from gos_fx.emulator.calibrate import HUBER, Constants, Program, least_huber
from gos_fx.targets import get
from gos_fx.targets.target import Fit

FIGURES = FOLDER / "snapdragon_845.csv"
CORES = 4
# Relative standard deviations of what is believed before any figure. The out-of-order
# boards' own fits give 1.10 to 1.43 for issue. For the line it is narrow, because the
# figures hardly tell it from issue: with a wide one the fit ends at 35 GB/s for one
# core, which the chip's memory does not have.
ISSUE_DEVIATION, LINE_DEVIATION = 0.15, 0.15
# Four threads: half of the memory's peak rate (see the target) is a guess.
ALL_DEVIATION = 0.5
LEAST_ERROR = 0.10  # no public figure says more, whatever the fit says


@dataclass(frozen=True)
class Figure:
    """A published latency, and the counts of the program that stands for it.

    ``role`` is "fit", or why it is not used.
    """

    program: Program
    engine: str
    role: str


@dataclass(frozen=True)
class Scale:
    """Constants of the chip: ``line_s`` of one thread, and of four."""

    issue: float
    line_s: float
    line_all_s: float

    def seconds(self, program: Program) -> float:
        """What they predict; threads beyond the big cluster do not count."""
        threads = min(program.threads, CORES)
        share = (threads - 1) / (CORES - 1)
        line_s = self.line_s + share * (self.line_all_s - self.line_s)
        cluster = replace(program, threads=threads)
        return Constants(self.issue, line_s).seconds(cluster)


def figures(path: Path = FIGURES, counts: Path = COUNTS) -> list[Figure]:
    """All of them, in the file's order."""
    counted = {
        (row["setting"], row["program"]): row
        for row in rows(counts)
        if row["threads"] == "1"
    }
    found = []
    for row in rows(path):
        have = counted[row["setting"], row["program"]]
        program = Program(
            name=row["network"],
            cycles=float(have["cycles"]),
            lines=float(have["l3_misses"]) + float(have["writebacks"]),
            seconds=1e-3 * float(row["milliseconds"]),
            clock_hz=float(row["clock_hz"]),
            threads=int(row["threads"]),
            board=row["board"],
        )
        found.append(Figure(program, row["engine"], row["role"]))
    return found


def prior() -> Scale:
    """Before any figure of the chip."""
    constants = out_of_order().constants
    machine = get("snapdragon_845").machine
    all_s = machine.line_bytes / machine.dram_bytes_per_s_all
    return Scale(constants.issue, constants.line_s, all_s)


def fit(programs: Sequence[Program], believed: Scale) -> Scale:
    """Least Huber loss of the relative errors and of the distance from the prior."""
    rows_, trust = [], []
    for program in programs:
        share = (program.threads - 1) / (CORES - 1)
        line = program.lines / program.seconds
        issue = program.issue_s / program.seconds
        rows_.append((issue, (1 - share) * line, share * line))
        trust.append(1.0)
    before = (believed.issue, believed.line_s, believed.line_all_s)
    deviations = (ISSUE_DEVIATION, LINE_DEVIATION, ALL_DEVIATION)
    for i, (value, deviation) in enumerate(zip(before, deviations, strict=True)):
        rows_.append(tuple(1 / value if i == j else 0.0 for j in range(3)))
        trust.append((HUBER / deviation) ** 2)
    issue, one, every = least_huber(np.array(rows_), np.array(trust))
    return Scale(float(issue), float(one), float(every))


@dataclass(frozen=True)
class Result:
    """Constants, the figures they rest on, and what each is without itself."""

    scale: Scale
    used: tuple[Figure, ...]
    without_figure: tuple[float, ...]
    without_board: tuple[float, ...]

    def errors(self, predicted: Sequence[float]) -> NDArray[np.float64]:
        """predicted / published - 1."""
        published = np.array([figure.program.seconds for figure in self.used])
        return np.array(predicted) / published - 1

    @property
    def error(self) -> float:
        """Half width around a prediction that holds every figure, if it or all of its
        board's are left out."""
        published = np.array([figure.program.seconds for figure in self.used])
        left_out = np.array([self.without_figure, self.without_board])
        return max(LEAST_ERROR, float(np.max(np.abs(published / left_out - 1))))

    @property
    def fits(self) -> tuple[Fit, Fit]:
        """The target's records; the noise is that of programs on the other boards."""
        noise = out_of_order().noise
        source = "public figures of the chip, boards of A57, A72 and A73 cores"
        one = Fit(1, self.scale.issue, self.scale.line_s, self.error, noise, source)
        return one, replace(one, threads=CORES, line_s=self.scale.line_all_s)


def calibrate(believed: Scale | None = None) -> Result:
    """Fit on the figures that can be used; each figure, and each board, left out."""
    believed = believed or prior()
    used = [figure for figure in figures() if figure.role == "fit"]
    programs = [figure.program for figure in used]
    scale = fit(programs, believed)
    alone = [
        fit([p for p in programs if p is not one], believed).seconds(one)
        for one in programs
    ]
    board = [
        fit([p for p in programs if p.board != one.board], believed).seconds(one)
        for one in programs
    ]
    return Result(scale, tuple(used), tuple(alone), tuple(board))
