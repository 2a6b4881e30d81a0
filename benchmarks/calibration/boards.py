"""Boards of ncnn's table: fits of the Raspberry Pi 3B+, and of out-of-order cores."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gos_fx.emulator.calibrate import Calibration, Constants, Program, calibrate, fit

FOLDER = Path(__file__).parent
TABLE = FOLDER / "ncnn_boards.csv"
PUBLISHED = FOLDER / "ncnn_published.csv"


@dataclass(frozen=True)
class Board:
    """A column of the table: its name there, its clock, LLVM's model of its core."""

    name: str
    clock_hz: float
    model: str


PI = Board("rpi3b_plus", 1.4e9, "a55")
OUT_OF_ORDER = (
    Board("rpi4", 1.8e9, "a57"),
    Board("rk3399", 1.8e9, "a57"),
    Board("vim3", 2.2e9, "a57"),
    Board("sd810", 2.0e9, "a57"),
)


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a CSV file whose first lines may be comments with ``#``."""
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def programs(board: Board, threads: int = 1, path: Path = TABLE) -> list[Program]:
    """The networks that the board has a latency of."""
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
        for row in rows(path)
        if row[column]
    ]


def raspberry_pi(threads: int) -> Calibration:
    """One network left out at a time."""
    return calibrate(programs(PI, threads))


def out_of_order() -> Calibration:
    """One pair of constants for all four boards, one board left out at a time."""
    pooled = [program for board in OUT_OF_ORDER for program in programs(board)]
    return calibrate(pooled, leave_out=lambda program: program.board)


def halves(threads: int, repeats: int = 50, seed: int = 0) -> list[float]:
    """Median errors on one half of the networks by constants fitted on the other."""
    rng = random.Random(seed)
    measured = programs(PI, threads)
    medians = []
    for _ in range(repeats):
        drawn = rng.sample(measured, len(measured))
        half = len(drawn) // 2
        constants = fit(drawn[:half])
        medians.append(_median_error(constants, drawn[half:]))
    return medians


def _median_error(constants: Constants, unseen: list[Program]) -> float:
    errors = sorted(abs(constants.seconds(p) / p.seconds - 1) for p in unseen)
    return (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2
