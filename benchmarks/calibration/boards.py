"""Boards of ncnn's table: fits of the Raspberry Pi 3B+, and of out-of-order cores."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gos_fx.emulator.calibrate import Calibration, Constants, Program, calibrate, fit

FOLDER = Path(__file__).parent
STUDY = FOLDER / "ncnn_boards.csv"  # counts of the study, 20 networks
PUBLISHED = FOLDER / "ncnn_published.csv"  # milliseconds
COUNTS = FOLDER / "counts.csv"  # counts by our emulator, written by count.py


@dataclass(frozen=True)
class Board:
    """A column of ncnn's table: its name there and its clock.

    Attributes:
        model: of its core, in the names of the study's columns.
        setting: which of our counts stand for it.
    """

    name: str
    clock_hz: float
    model: str
    setting: str


PI = Board("rpi3b_plus", 1.4e9, "a55", "a53")
# Another board with the same core, which no constant was fitted on.
RK3399_LITTLE = Board("rk3399_little", 1.5e9, "a55", "a53")
OUT_OF_ORDER = (
    Board("rpi4", 1.8e9, "a57", "a72"),
    Board("rk3399", 1.8e9, "a57", "a72"),
    Board("vim3", 2.2e9, "a57", "a72"),
    Board("sd810", 2.0e9, "a57", "a57"),
)


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a CSV file whose first lines may be comments with ``#``."""
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def study_programs(board: Board, threads: int = 1) -> list[Program]:
    """The networks of the study that the board has a latency of."""
    column = f"{board.name}_ms_{threads}"
    return [
        Program(
            name=row["network"],
            cycles=float(row[f"cycles_{board.model}"]),
            lines=float(row["l2_misses"]) + float(row["writebacks"]),
            seconds=1e-3 * float(row[column]),
            clock_hz=board.clock_hz,
            threads=threads,
            board=board.name,
        )
        for row in rows(STUDY)
        if row[column]
    ]


def programs(board: Board, threads: int = 1) -> list[Program]:
    """All published networks that the board has a latency of, by our counts.

    With several threads it is the busiest one whose cycles count.
    """
    column = f"{board.name}_ms_{threads}"
    counted = {
        row["program"]: row
        for row in rows(COUNTS)
        if (row["setting"], row["threads"]) == (board.setting, str(threads))
    }
    found = []
    for row in rows(PUBLISHED):
        have = counted.get(row["network"])
        if have is not None and row[column]:
            program = Program(
                name=row["network"],
                cycles=threads * float(have["busiest"]),
                lines=float(have["l2_misses"]) + float(have["writebacks"]),
                seconds=1e-3 * float(row[column]),
                clock_hz=board.clock_hz,
                threads=threads,
                board=board.name,
            )
            found.append(program)
    return found


def study(threads: int) -> Calibration:
    """Raspberry Pi 3B+, the study's counts, one network left out at a time."""
    return calibrate(study_programs(PI, threads))


def raspberry_pi(threads: int) -> Calibration:
    """Raspberry Pi 3B+, our counts, one network left out at a time."""
    return calibrate(programs(PI, threads))


def out_of_order() -> Calibration:
    """One pair of constants for all four boards, one board left out at a time."""
    pooled = [program for board in OUT_OF_ORDER for program in programs(board)]
    return calibrate(pooled, leave_out=lambda program: program.board)


def halves(
    measured: Sequence[Program], repeats: int = 50, seed: int = 0
) -> list[float]:
    """Median errors on one half of the networks by constants fitted on the other."""
    rng = random.Random(seed)
    medians = []
    for _ in range(repeats):
        drawn = rng.sample(list(measured), len(measured))
        half = len(drawn) // 2
        constants = fit(drawn[:half])
        medians.append(median_error(constants, drawn[half:]))
    return medians


def median_error(constants: Constants, unseen: Sequence[Program]) -> float:
    """Of programs that the constants were not fitted on, relative."""
    errors = sorted(abs(constants.seconds(p) / p.seconds - 1) for p in unseen)
    return (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2
