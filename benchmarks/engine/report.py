"""Results, and the table of their ratios."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.engine.engine import OURS


@dataclass(frozen=True)
class Result:
    """One network on one machine by one engine.

    Attributes:
        on: "host", or the name of an emulated target.
        latency_s: seconds of an inference; the median on this machine.
        spread: half the distance between the quartiles, as a part of the median; 0 for
            what was counted, not repeated.
        max_abs_error: largest difference of an output from PyTorch's in fp32.
    """

    network: str
    on: str
    threads: int
    engine: str
    version: str
    latency_s: float
    spread: float
    max_abs_error: float


def table(results: Iterable[Result]) -> str:
    """Markdown: our milliseconds, and what they are of each engine's and of the best's.

    A cell is ``ratio (the engine's milliseconds)``; below 1 we are faster.
    """
    groups: dict[tuple[str, str, int], dict[str, Result]] = {}
    for result in results:
        group = groups.setdefault((result.network, result.on, result.threads), {})
        group[result.engine] = result
    others = list(
        dict.fromkeys(name for g in groups.values() for name in g if name != OURS)
    )
    rows = [["network", "on", "threads", f"{OURS} ms", *others, "best"]]
    rows.append(["---"] * len(rows[0]))
    for (network, on, threads), group in groups.items():
        ours = group.get(OURS)
        theirs = [group.get(name) for name in others]
        cells = [_cell(ours, one) for one in theirs]
        row = [network, on, str(threads), _milliseconds(ours), *cells]
        rows.append([*row, _best(ours, [one for one in theirs if one is not None])])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _milliseconds(result: Result | None) -> str:
    return "" if result is None else f"{1e3 * result.latency_s:.2f}"


def _cell(ours: Result | None, theirs: Result | None) -> str:
    if theirs is None:
        return ""
    if ours is None:
        return f"({_milliseconds(theirs)})"
    ratio = ours.latency_s / theirs.latency_s
    return f"{ratio:.2f} ({_milliseconds(theirs)})"


def _best(ours: Result | None, theirs: Sequence[Result]) -> str:
    if not theirs:
        return ""
    best = min(theirs, key=lambda one: one.latency_s)
    if ours is None:
        return best.engine
    return f"{ours.latency_s / best.latency_s:.2f} ({best.engine})"
