"""The command ``gos-fx emulate``: any aarch64 program on the virtual board."""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING, Any

from gos_fx import tables
from gos_fx.errors import BadOption
from gos_fx.verbs import Found, Outcome

if TYPE_CHECKING:
    from rich.console import Console

# What is shown, of `Emulated`, in millions.
_COUNTS = {
    "instructions": "instructions",
    "cycles": "cycles of the issue model",
    "l1d_misses": "L1D misses",
    "l2_misses": "L2 misses",
    "l3_misses": "L3 misses",
    "writebacks": "write-backs to DRAM",
}


def add_commands(commands: Any) -> None:
    """The parser of this command."""
    parser = commands.add_parser(
        "emulate",
        help="time any aarch64 Linux program on a board that is not there",
        description=inspect.getdoc(emulate),
        usage="gos-fx emulate [OPTIONS] -- PROGRAM [ARGUMENT ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("program", nargs="+", metavar="PROGRAM", help="an executable, its arguments")
    add("--target", metavar="NAME", default="arm_a53", help="default: arm_a53")
    add(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="cores that it uses; it must start its threads itself (default: 1)",
    )
    add(
        "--region",
        default="auto",
        metavar="REGION",
        help="auto, whole, or clock:N, between calls N and N+1 (default: auto)",
    )
    add("--timeout", type=float, metavar="SECONDS", help="default: none")
    add("--json", action="store_true", help="one JSON document on stdout, only that")
    parser.set_defaults(verb=emulate)


def emulate(arguments: argparse.Namespace) -> Outcome:
    """Time any aarch64 Linux program on a board that is not there.

    The program runs under qemu; what it executes and which lines of memory it moves is
    counted, and the target's fitted constants make seconds of that. What counts is the
    region between the first two calls of clock_gettime of one of its threads, or the
    whole run if no thread makes two. Threads that wait for others do not count, nor do
    processes that it starts.

    The program prints to stderr; with --json nothing of it is printed. It sees the
    board's /proc and /sys, and else the files of this machine, which it may read and
    write: run only what you trust. So its results are never taken from a cache.
    """
    from gos_fx.emulator.measure import measure
    from gos_fx.targets import target

    if arguments.timeout is not None and not arguments.timeout > 0:
        raise BadOption(
            f"{arguments.timeout:g} seconds", where="--timeout", do="Give more than 0."
        )
    found = measure(
        arguments.program,
        target.get(arguments.target),
        threads=arguments.threads,
        region=arguments.region,
        capture=arguments.json,
        timeout=arguments.timeout,
    )
    return Outcome({"program": arguments.program, **found.to_json()}, show)


def show(out: Console, found: Found) -> None:
    """The counts as a table, and the latency with what it rests on."""
    rows = [
        (text, f"{found[name] / 1e6:.3f} M")
        for name, text in _COUNTS.items()
        if found[name] is not None
    ]
    out.print(_title(found))
    out.print(tables.table("", ("|", "count"), rows))
    latency, error = found["latency_s"], found["latency_error"]
    out.print(
        f"{tables.milliseconds(latency)} ms +- {tables.milliseconds(error)} ms. "
        f"Constants from {found['source']}; {found['issue_model']}, "
        f"qemu {found['qemu']}."
    )
    working, threads = found["working_threads"], found["threads"]
    if working != threads:
        shared = "divided evenly" if found["division"] == "evenly" else "as they are"
        out.print(
            f"{working} of its threads worked, on {threads} cores: taken {shared}."
        )


def _title(found: Found) -> str:
    threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
    region = "the whole run, with loading"
    if found["region"] != "whole":
        call = int(found["region"].removeprefix("clock:"))
        region = f"between calls {call} and {call + 1} of clock_gettime"
    return f"{found['target']}, {threads}, {region}"
