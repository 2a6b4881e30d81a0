"""The commands of ``gos-fx`` about boards: calibrate and doctor."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from gos_fx import tables_board
from gos_fx.verbs import FAILED, OK, Found, Outcome

if TYPE_CHECKING:
    from gos_fx.emulator.calibrate import Calibration
    from gos_fx.emulator.measurements import Row

# Option of the command, its type, and the field of the machine that it is.
_MACHINE = {
    "clock-hz": (float, "clock_hz", "of its cores while it measured"),
    "cores": (int, "cores", "of the cluster"),
    "l1d-bytes": (int, "l1d_bytes", "of each core"),
    "l2-bytes": (int, "l2_bytes", "of each core, or of all if they share it"),
    "dram-bytes-per-s": (float, "dram_bytes_per_s_1", "that one thread gets"),
    "dram-bytes-per-s-all": (float, "dram_bytes_per_s_all", "that all cores get"),
}


def add_commands(commands: Any) -> None:
    """The parsers of these commands."""
    parser = _command(commands, "calibrate", calibrate)
    add = parser.add_argument
    add("measurements", metavar="FILE.csv", help="programs and their milliseconds")
    add("--base", metavar="NAME", required=True, help="a target with such a core")
    add("--name", required=True, help="of the new target")
    add("-o", "--output", metavar="FILE.json", required=True, help="gets the target")
    for option, (kind, _, text) in _MACHINE.items():
        add(f"--{option}", type=kind, metavar="N", help=f"{text} (default: as BASE)")
    add(
        "--memory-bytes",
        type=int,
        metavar="N",
        help="what a model may use (default: as BASE)",
    )
    add("--description", metavar="TEXT", help="board, chip and cores in one line")
    _command(commands, "doctor", doctor)


def _command(commands: Any, name: str, function: Any) -> Any:
    text = function.__doc__.strip()
    parser = commands.add_parser(
        name,
        help=text[0].lower() + text[1:].splitlines()[0].rstrip("."),
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, and only that"
    )
    parser.set_defaults(verb=function)
    return parser


def calibrate(arguments: argparse.Namespace) -> Outcome:
    """Make a target of your own board from programs that you measured on it.

    FILE.csv has a header and the columns
      milliseconds   measured on the board
      threads        that the program used (1 if there is no such column)
      name           free
    and either
      cycles, l2_misses, writebacks   as `gos-fx emulate --target BASE` counts them;
                     and, if there, busiest_cycles and l3_misses
    or
      command        an aarch64 Linux program and its arguments, run and counted here
      region         where in it, as for `gos-fx emulate` (auto if there is none)
    At least three programs for each number of threads, of different kinds and sizes.
    The file that this writes is a target wherever a name is.
    """
    from gos_fx.emulator.derive import derive, uncalibrated
    from gos_fx.emulator.measurements import count, read_measurements
    from gos_fx.targets import target as table
    from gos_fx.targets.files import save_target

    rows = read_measurements(arguments.measurements)
    options = {
        field: getattr(arguments, option.replace("-", "_"))
        for option, (_, field, _) in _MACHINE.items()
    }
    given = {field: value for field, value in options.items() if value is not None}
    board = uncalibrated(
        table.get(arguments.base),
        arguments.name,
        arguments.description,
        arguments.memory_bytes,
        given,
    )
    programs = count(rows, board, _say)
    derived = derive(board, programs, arguments.measurements, tuple(given))
    save_target(derived.target, arguments.output)
    emulation = derived.target.emulation
    assert emulation is not None
    found = {
        "target": derived.target.name,
        "base": arguments.base,
        "output": arguments.output,
        "fits": [
            {
                "threads": fit.threads,
                "issue": fit.issue,
                "line_s": fit.line_s,
                "error": fit.error,
                "noise": fit.noise,
                "source": fit.source,
                "calibration": _calibration(derived.calibrations.get(fit.threads)),
            }
            for fit in emulation.fits
        ],
    }
    return Outcome(found, tables_board.show_calibration)


def _calibration(found: Calibration | None) -> Found | None:
    """Errors of programs by constants that were fitted without them."""
    if found is None:
        return None
    return {
        "median": found.median,
        "worst": found.worst,
        "tau": found.tau,
        "programs": [
            {
                "name": program.name,
                "measured_s": program.seconds,
                "predicted_s": predicted,
                "error": float(error),
            }
            for program, predicted, error in zip(
                found.programs, found.predicted, found.errors, strict=True
            )
        ],
    }


def _say(row: Row) -> None:
    if sys.stderr.isatty():
        print(f"counting {row.name} (line {row.line})", file=sys.stderr)


def doctor(arguments: argparse.Namespace) -> Outcome:
    """Say what is there, what is missing, and how to install it.

    Exit status 1 if something is missing that a part of gos_fx needs.
    """
    from gos_fx.doctor import examine

    checks = examine()
    found = {"checks": [check.to_json() for check in checks]}
    missing = any(check.state == "missing" for check in checks)
    return Outcome(found, tables_board.show_doctor, FAILED if missing else OK)
