"""What the commands found, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Found = dict[str, Any]
# What a profile shows of what its source counted; its JSON has all.
_COUNTERS = ("cycles", "l1d_misses", "lines")


def console(file: Any) -> Console:
    from rich.console import Console

    width = None if file.isatty() else 120
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """Columns whose name ends in "|" are text and left-aligned, others are numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left")
    for column in columns:
        text = column.endswith("|")
        made.add_column(
            column.removesuffix("|"),
            justify="left" if text else "right",
            overflow="fold",
            no_wrap=not text,
        )
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return made


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.4g}"


def megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB"


def short(count: float) -> str:
    """Three digits and a unit: 12.7M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def show_targets(out: Console, found: Found) -> None:
    rows = [
        (
            row["name"],
            row["threads"],
            megabytes(row["memory_bytes"]),
            "qemu" if row["emulator"] else "",
            row["description"],
        )
        for row in found["targets"]
    ]
    columns = ("target|", "threads", "for a model", "emulator|", "description|")
    out.print(table("", columns, rows))


def show_profile(out: Console, found: Found) -> None:
    known = {name for row in found["rows"] for name in row["counters"]}
    counters = [name for name in _COUNTERS if name in known]
    rows = [
        (
            row["name"],
            row["kind"],
            milliseconds(row["latency"]["seconds"]),
            f"{100 * row['share']:.1f} %",
            *(short(row["counters"].get(c, 0)) for c in counters),
            short(row["parameters"]),
            megabytes(row["memory_bytes"]),
            row["reason"],
        )
        for row in found["rows"]
    ]
    names = [name.replace("_", " ") for name in counters]
    columns = ("operator|", "kind|", "ms", "share", *names)
    columns += ("parameters", "memory", "note|")
    title = f"{found['target']}, {found['threads']} threads"
    out.print(table(title, columns, rows))
    latency = found["latency"]
    out.print(
        f"{milliseconds(latency['seconds'])} ms +- {milliseconds(latency['error'])} ms "
        f"({latency['source']}), {found['parameters']:,} parameters, "
        f"{megabytes(found['memory_bytes'])} in memory"
    )
    if not math.isclose(found["sum"]["seconds"], latency["seconds"], rel_tol=1e-9):
        verdict = "within" if found["agrees"] else "MORE THAN"
        out.print(
            f"The operators add up to {milliseconds(found['sum']['seconds'])} ms, "
            f"{verdict} the error away from the whole network."
        )


def _more(measures: Found, objective: str) -> str:
    if objective == "memory":
        return megabytes(measures["memory_bytes"])
    return f"{1e3 * measures['energy_j']:.4g} mJ ({measures['energy_source']})"


def show_result(out: Console, found: Found) -> None:
    more = [name for name in found["objectives"] if name in ("memory", "energy")]
    rows = [
        (
            name,
            milliseconds(found[name]["latency_s"]),
            milliseconds(found[name]["latency_error"]),
            f"{found[name]['parameters']:,}",
            *(_more(found[name], objective) for objective in more),
            f"{found[name]['metric']:.4f}",
        )
        for name in ("baseline", "optimized")
    ]
    title = f"{found['target']}, {found['threads']} threads, {found['latency_source']}"
    columns = ("|", "ms", "+- ms", "parameters", *more, found["metric"])
    out.print(table(title, columns, rows))
    replaced = [
        (
            ", ".join(r["operators"]),
            milliseconds(r["latency_before_s"]),
            milliseconds(r["latency_after_s"]),
            "tile and unroll only" if r["schedule_only"] else "another operator",
        )
        for r in found["replacements"]
    ]
    names = ("replaced|", "ms before", "ms after", "by|")
    out.print(table("", names, replaced) if replaced else "Nothing was replaced.")
    out.print(f"{found['speedup']:.2f} times as fast.")
    if not found["latency_confirmed"]:
        reason = found.get("latency_unconfirmed", "the result was not measured")
        out.print(f"No measurement confirms this: {reason.rstrip('.')}.")
    if not found["accuracy_measured"]:
        out.print(
            "Accuracy was not measured: without --data, fidelity to the original's own "
            "outputs took its place."
        )
    if found["run_dir"] is None:
        out.print("Nothing was saved; --run-dir DIR saves the network.")
    else:
        out.print(f"Saved in {found['run_dir']}")


def show_package(out: Console, found: Found) -> None:
    out.print(
        f"{found['package']}: {found['target']} ({found['machine']}), "
        f"{found['threads']} threads, {megabytes(found['library_bytes'])}, "
        f"compiled in {found['seconds']:.1f} s"
    )
    for kind in ("inputs", "outputs"):
        for spec in found[kind]:
            shape = "x".join(map(str, spec["shape"]))
            out.print(f"  {kind[:-1]} {spec['name']}: {spec['dtype']} {shape}")


def show_run(out: Console, found: Found) -> None:
    rows = [
        (y["name"], y["dtype"], "x".join(map(str, y["shape"])), f"{y['largest']:.6g}")
        for y in found["outputs"]
    ]
    columns = ("output|", "type|", "shape|", "largest absolute value")
    out.print(table(f"{found['package']}, {found['ran']}", columns, rows))
    if "difference" in found:
        verdict = "agrees" if found["agrees"] else "does not agree"
        out.print(
            f"largest difference to PyTorch: {found['difference']:.3g}; it {verdict} "
            f"to {found['tolerance']:g} of the outputs"
        )
