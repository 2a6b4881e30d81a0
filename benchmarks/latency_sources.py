"""How far each source of latencies can be trusted: prints the tables of errors.

    python -m benchmarks.latency_sources [-o latency_sources.json] [SECTION ...]

A section is a function in ``SECTIONS`` that gives tables. Those about the engines read
the committed counts, and the analytical model is compared with committed ones;
``emulator_sums`` emulates two networks, which takes minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import emulator_sums
from benchmarks.analytical.sections import analytical
from benchmarks.calibration import sections as calibration


@dataclass(frozen=True)
class Table:
    """Rows of plain values under the names of their columns."""

    title: str
    rows: tuple[Mapping[str, Any], ...]


Titled = tuple[str, Sequence[Mapping[str, Any]]]

SECTIONS: dict[str, Callable[[], Iterable[Titled]]] = {
    "raspberry_pi_3b_plus": calibration.raspberry_pi,
    "out_of_order": calibration.out_of_order,
    "snapdragon_845": calibration.snapdragon_845,
    "analytical": analytical,
    "emulator_sums": emulator_sums.sums,
}


def tables(section: str) -> tuple[Table, ...]:
    """The tables of a section."""
    return tuple(Table(title, tuple(rows)) for title, rows in SECTIONS[section]())


def show(table: Table) -> str:
    """Text with a line for each row; shares and times are rounded, errors in %."""
    columns = list(dict.fromkeys(key for row in table.rows for key in row))
    cells = [columns, *([_cell(row.get(key)) for key in columns] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
    return "\n".join((table.title, *lines))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sections", metavar="SECTION", nargs="*", default=[])
    parser.add_argument("-o", "--output", type=Path, help="also write JSON")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {min(unknown)}; there are {', '.join(SECTIONS)}")
    found = {name: tables(name) for name in arguments.sections or SECTIONS}
    for some in found.values():
        for table in some:
            print(show(table), end="\n\n")
    if arguments.output is not None:
        plain = {name: [asdict(t) for t in some] for name, some in found.items()}
        arguments.output.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main()
