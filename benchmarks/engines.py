"""This project's compiled code beside other engines: same networks, weights and input.

    python -m benchmarks.engines --networks resnet18 --on host --threads 1,2 --out x
    python -m benchmarks.engines --networks resnet18 --on arm_a53 --threads 1,4
    python -m benchmarks.engines --table x

``host`` times this machine (see :mod:`benchmarks.engine.host`); a target's name counts
the engines' own aarch64 wheels under the emulator. The first run fetches the engines
with pip. The outputs are compared with PyTorch's. What an engine cannot do is said on
standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.engine import case, emulated, engine, host
from benchmarks.engine.report import Result, table
from gos_fx.targets import get


def results(arguments: argparse.Namespace) -> Iterator[Result]:
    """One for each network, number of threads and engine, as they come."""
    here = arguments.on == "host"
    names = arguments.engines or (engine.NAMES if here else engine.emulated())
    for network in arguments.networks:
        for threads in arguments.threads:
            if here:
                yield from host.measure(
                    names, network, threads, arguments.rounds, arguments.inferences
                )
            else:
                target = get(arguments.on)
                yield from emulated.measure(names, network, threads, target)


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.table is not None:
        found = json.loads(arguments.table.read_text())
        print(table(Result(**one) for one in found))
        return
    rows = []
    for result in results(arguments):
        rows.append(asdict(result))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if arguments.out is not None:  # what there is stays if a later one fails
            arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.out is None:
        print(json.dumps(rows, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--networks", type=_names(case.NETWORKS), default=case.NETWORKS)
    add("--on", default="host", help="host, or an emulated target")
    add("--threads", type=_numbers, default=(1,))
    add("--engines", type=_names(engine.NAMES), help="default: all that there are")
    add("--out", type=Path, metavar="FILE.json", help="default: standard output")
    add("--rounds", type=int, default=20, help="turns of each engine on the host")
    add("--inferences", type=int, default=5, help="timed in a turn")
    add("--table", type=Path, metavar="FILE.json", help="print the ratios of a file")
    return parser


class _names:
    """Parses names, separated by commas, that are all known."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def __call__(self, text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in self._known:
                known = ", ".join(self._known)
                raise argparse.ArgumentTypeError(f"no {name!r}; there are {known}")
        return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
