"""What tuning found, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gos_fx.tables import Found, milliseconds, table

if TYPE_CHECKING:
    from rich.console import Console


def show_tuning(out: Console, found: Found) -> None:
    rows = [
        (
            row["name"],
            row["calls"],
            _milliseconds(row["before_s"]),
            _milliseconds(row["after_s"]),
            _sizes(row),
            _trials(row),
        )
        for row in found["kernels"]
    ]
    columns = ("kernel|", "calls", "ms before", "ms after", "sizes|", "trials|")
    title = f"{found['target']}, {found['threads']} threads, {found['latency_source']}"
    out.print(table(title, columns, rows))
    out.print(
        f"These kernels: {milliseconds(found['before_s'])} ms, now "
        f"{milliseconds(found['after_s'])} ms +- {milliseconds(found['error_s'])} ms."
    )
    for refused in found["latency_refused"]:
        out.print(f"Not {refused['source']}: {refused['reason']}")
    kept = any(row["sizes"] is not None and row["stands"] for row in found["kernels"])
    if kept:
        out.print(f"Kept in {found['records']}, for every later compilation.")
    if found["interrupted"]:
        out.print("Interrupted; the same command goes on where this ended.")


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else milliseconds(seconds)


def _trials(row: Found) -> str:
    counts = [
        (row["measured"], "new"),
        (row["known"], "known"),
        (row["failed"], "fail"),
    ]
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _sizes(row: Found) -> str:
    if row["failure"]:
        return f"fails: {row['failure']}"
    if row["before_s"] is None:
        return "not reached"
    if row["sizes"] is None:
        return "default"
    if not row["stands"]:
        return "as decided by a better source"
    tile = _pairs(row["sizes"]["tile"]) or "all 1"
    unroll = _pairs(row["sizes"]["unroll"])
    return f"{tile}; unroll {unroll}" if unroll else tile


def _pairs(sizes: Mapping[str, int]) -> str:
    return " ".join(f"{loop}={size}" for loop, size in sizes.items() if size > 1)
