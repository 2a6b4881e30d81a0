"""Measured programs of a CSV file, counted where the file has no counts.

Columns: ``milliseconds``, measured on the board; ``threads`` (1 if left out); ``name``;
and either ``cycles``, ``l2_misses`` and ``writebacks`` as ``gos-fx emulate`` gives them
for the target that the board is derived from (``l3_misses`` where that has an L3, and
``busiest_cycles`` where the threads do not share the work evenly), or ``command``, an
aarch64 program with arguments, which is then run and counted, in ``region`` if there is
such a column. Other columns are ignored, and so are lines with ``#``.
"""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gos_fx.emulator.calibrate import Program
from gos_fx.errors import BadOption, GosError
from gos_fx.targets.target import Target

COUNTS = ("cycles", "l2_misses", "writebacks")
_LARGEST = 16 << 20  # bytes
_DO = (
    "Give a header and the columns milliseconds, threads and either cycles, l2_misses "
    "and writebacks, or command."
)


@dataclass(frozen=True)
class Row:
    """A program of the file.

    Attributes:
        line: of the file, for messages.
        cycles: of the busiest thread, times the threads; None where the program is to
            be counted.
        lines: cache lines from and to DRAM.
        command: the program and its arguments; empty where the file has the counts.
        region: of the command that is counted.
    """

    line: int
    name: str
    threads: int
    seconds: float
    cycles: float | None
    lines: float
    command: tuple[str, ...]
    region: str


def read_measurements(path: str | Path) -> list[Row]:
    """The rows of a file.

    Raises:
        BadOption: it cannot be read, lacks a column, or a number is none.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise BadOption(f"more than {_LARGEST} bytes", where=str(path), do=_DO)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadOption(
            f"the measurements cannot be read: {said}", where=str(path), do=_DO
        ) from error
    numbered = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    try:
        table = list(csv.reader((line for _, line in numbered), strict=True))
    except csv.Error as error:
        raise BadOption(f"this is not CSV: {error}", where=str(path), do=_DO) from error
    header = [column.strip() for column in table[0]] if table else []
    counted = all(column in header for column in COUNTS)
    if "milliseconds" not in header or not (counted or "command" in header):
        have = ", ".join(header) or "none"
        raise BadOption(f"columns are missing: it has {have}", where=str(path), do=_DO)
    if len(table) != len(numbered):
        raise BadOption("a quoted cell goes over a line's end", where=str(path), do=_DO)
    rows = []
    for (number, _), cells in zip(numbered[1:], table[1:], strict=True):
        where = f"{path}, line {number}"
        if len(cells) != len(header):
            raise BadOption(
                f"{len(cells)} cells under {len(header)} columns", where=where, do=_DO
            )
        row = {key: cell.strip() for key, cell in zip(header, cells, strict=True)}
        rows.append(_row(row, number, where))
    return rows


def _row(cells: dict[str, str], line: int, where: str) -> Row:
    counted = all(cells.get(column) for column in COUNTS)
    command = cells.get("command", "")
    if not (counted or command):
        raise BadOption("neither all counts nor a command", where=where, do=_DO)
    threads = _number(cells, "threads", where, default=1.0)
    if threads < 1 or threads != int(threads):
        raise BadOption(f"{cells['threads']!r} threads", where=f"{where}, threads")
    seconds = 1e-3 * _number(cells, "milliseconds", where)
    cycles, lines = None, 0.0
    if counted:
        last = "l3_misses" if cells.get("l3_misses") else "l2_misses"
        cycles = _number(cells, "cycles", where)
        if cells.get("busiest_cycles"):
            cycles = threads * _number(cells, "busiest_cycles", where)
        lines = _number(cells, last, where) + _number(cells, "writebacks", where)
    if seconds == 0 or cycles == 0:
        raise BadOption("milliseconds or cycles are 0", where=where)
    try:
        words = () if counted else tuple(shlex.split(command))
    except ValueError as error:
        raise BadOption(
            f"no command: {error}", where=f"{where}, command", do="Close the quotes."
        ) from error
    name = cells.get("name") or (Path(words[0]).name if words else f"line {line}")
    region = cells.get("region") or "auto"
    return Row(line, name, int(threads), seconds, cycles, lines, words, region)


def _number(
    cells: dict[str, str], column: str, where: str, default: float | None = None
) -> float:
    text = cells.get(column, "")
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise BadOption(
            f"{text!r} is not a number of 0 or more",
            where=f"{where}, {column}",
            do="Write it with a point and without a unit.",
        )
    return value


def count(
    rows: Sequence[Row],
    target: Target,
    progress: Callable[[Row], None] | None = None,
) -> list[Program]:
    """The programs; those without counts are run under the emulator of ``target``.

    Raises:
        BadOption: a row wants more threads than the target has cores.
        EmulatorUnavailable, ProgramFailed: a program could not be counted.
    """
    programs = []
    for row in rows:
        if row.threads > target.machine.cores:
            raise BadOption(
                f"{row.threads} threads on {target.machine.cores} cores",
                where=f"line {row.line}, threads",
                do="Say how many the board has with --cores.",
            )
        cycles, lines = row.cycles, row.lines
        if cycles is None:
            if progress is not None:
                progress(row)
            cycles, lines = _emulate(row, target)
        programs.append(
            Program(
                row.name,
                cycles,
                lines,
                row.seconds,
                target.machine.clock_hz,
                row.threads,
                target.name,
            )
        )
    return programs


def _emulate(row: Row, target: Target) -> tuple[float, float]:
    """(cycles that keep all threads busy as long as the busiest is, lines)."""
    from gos_fx.emulator.measure import measure

    try:
        found = measure(row.command, target, threads=row.threads, region=row.region)
    except GosError as error:
        where = f"line {row.line}, {error.where}" if error.where else f"line {row.line}"
        raise type(error)(error.what, where, error.do) from error
    last = found.l2_misses if found.l3_misses is None else found.l3_misses
    return found.busiest_cycles * row.threads, float(last + found.writebacks)
