"""Operators measured by the emulator: ``kernels.csv``.

    python -m benchmarks.analytical.kernels [--again] [--unseen] [--families NAME ...]

measures what the file does not have, or all of it; ``--unseen`` is about those of
``unseen.csv``, on which no form and no constant was chosen. Nothing tuned is used.
What is counted does not depend on constants of a board, so it stays when those are
recalibrated. LD_BIND_NOW keeps the dynamic linker's work at a first call out, which no
kernel in a network has.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from benchmarks.analytical.families import families, unseen
from gos_fx.errors import GosError
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.targets import Target, get

TABLE = Path(__file__).parent / "kernels.csv"
UNSEEN = TABLE.with_name("unseen.csv")
# Target, threads, and of how many operators one is measured there.
SETTINGS = (
    ("arm_a53", 1, 1),
    ("arm_a53", 4, 3),
    ("snapdragon_845", 1, 8),
    ("snapdragon_845", 4, 16),
)
_COUNTS = ("instructions", "serial", "parallel", "l1d_misses", "lines")


@dataclass(frozen=True)
class Measured:
    """An operator alone on a target: what the emulator counted of its kernels.

    ``serial`` and ``parallel`` are cycles of the issue model: outside of parallel loops
    and of the busiest thread inside of them.
    """

    family: str
    text: str
    target: str
    threads: int
    instructions: float
    serial: float
    parallel: float
    l1d_misses: float
    lines: float

    @property
    def graph(self) -> Graph:
        return parse(self.text)

    @property
    def seconds(self) -> float:
        """By the target's constants, as the emulator's source has it."""
        target = get(self.target)
        assert target.emulation is not None
        one, busy = target.emulation.fit(1), target.emulation.fit(self.threads)
        busy = busy if self.parallel else one
        cycles = one.issue * self.serial + busy.issue * self.parallel
        return cycles / target.machine.clock_hz + busy.line_s * self.lines


def read(path: Path = TABLE) -> tuple[Measured, ...]:
    """All measurements of the file."""
    return tuple(_read(path)) if path.exists() else ()


def _read(path: Path) -> Iterator[Measured]:
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            text = row["text"].replace(";", "\n")
            for target, threads, _ in SETTINGS:
                if found := row[f"{target}:{threads}"]:
                    counts = map(float, found.split())
                    yield Measured(row["family"], text, target, threads, *counts)


def write(measured: list[Measured], versions: str, path: Path = TABLE) -> None:
    """One row for each operator, one column for each target and number of threads."""
    columns = [f"{target}:{threads}" for target, threads, _ in SETTINGS]
    rows: dict[str, dict[str, str]] = {}
    for one in measured:
        row = rows.setdefault(one.text, {"family": one.family})
        row["text"] = one.text.replace("\n", ";")
        counts = (f"{getattr(one, name):.0f}" for name in _COUNTS)
        row[f"{one.target}:{one.threads}"] = " ".join(counts)
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(f"# {', '.join(_COUNTS)} of kernels alone; {versions}\n")
        file.write("# made by: python -m benchmarks.analytical.kernels\n")
        table = csv.DictWriter(file, ("family", *columns, "text"), lineterminator="\n")
        table.writeheader()
        table.writerows(rows.values())


def measure(family: str, graph: Graph, target: Target, threads: int) -> Measured:
    """One operator under the emulator, about a second.

    Raises:
        GosError: it cannot be compiled or emulated.
    """
    from gos_fx.kernels import emulator
    from gos_fx.kernels.packaged import package_operator
    from gos_fx.kernels.tuning.records import ignored

    with tempfile.TemporaryDirectory(prefix="gos_fx_kernels_") as folder, ignored():
        package = package_operator(graph, target, Path(folder), threads)
        *kernels, _ = emulator.measure(package, threads=threads, alone=True)
    sums = (sum(getattr(kernel, name) for kernel in kernels) for name in _COUNTS)
    return Measured(family, graph.text, target.name, threads, *sums)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="measure all anew")
    parser.add_argument("--unseen", action="store_true", help="those of unseen.csv")
    parser.add_argument("--families", nargs="+", help="measure these alone")
    arguments = parser.parse_args()
    os.environ["LD_BIND_NOW"] = "1"
    path = UNSEEN if arguments.unseen else TABLE
    chosen = unseen() if arguments.unseen else families()
    operators = dict.fromkeys((parse(text).text, family) for family, text in chosen)
    wanted = set(arguments.families or (family for _, family in operators))
    known = {
        (one.text, one.target, one.threads): one
        for one in read(path)
        if not (arguments.again and one.family in wanted)
    }
    versions = _versions()
    measured: list[Measured] = []
    for target, threads, every in SETTINGS[: 1 if arguments.unseen else None]:
        for text, family in list(operators)[::every]:
            one = known.pop((text, target, threads), None)
            if one is None and family in wanted:
                one = _measured(family, text, target, threads)
                print(len(measured), target, threads, family, flush=True)
            if one is not None:
                measured.append(one)
            if len(measured) % 20 == 0:
                write([*measured, *known.values()], versions, path)
    write(measured, versions, path)


def _measured(family: str, text: str, target: str, threads: int) -> Measured | None:
    """None where it cannot be, with the reason printed."""
    try:
        return measure(family, parse(text), get(target), threads)
    except GosError as error:
        print(f"{family}: {error}\n{text}", file=sys.stderr)
        return None


def _versions() -> str:
    from importlib.metadata import version

    from gos_fx.emulator import tools

    mca = tools.llvm_version(tools.find_llvm("llvm-mca", 19))
    qemu = tools.qemu_version(tools.find_qemu())
    return f"TVM {version('apache-tvm')}, LLVM {mca}, qemu {qemu}"


if __name__ == "__main__":
    main()
