"""Where the taps of a filter lie: one dilation, gaps of their own, or one per run.

An entry of a dilation is a number (neighbouring taps are so far apart) or a tuple of
the gaps between neighbours: 1 is adjacent, and g zeros between two taps are a gap of
g + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

from gos_fx.errors import VerifyError
from gos_fx.ir.dim import Dim, maximum

Entry = Dim | tuple[Dim, ...]
Dilation = tuple[Entry, Entry]


def tap_offsets(entry: Entry, taps: int) -> tuple[int, ...]:
    """Position of each tap behind the first, of concrete gaps."""
    gaps: Any = entry if isinstance(entry, tuple) else (entry,) * (taps - 1)
    return (0, *accumulate(gaps))


def reach(entry: Entry, taps: Dim) -> Dim:
    """Rows or columns that a filter covers: 1 + the sum of its gaps.

    Raises:
        VerifyError: the gaps are not one fewer than the taps.
    """
    if not isinstance(entry, tuple):
        return entry * (taps - 1) + 1
    if not isinstance(taps, int):
        raise VerifyError(
            f"gaps {_listed(entry)} need a literal kernel size, not {taps}"
        )
    if len(entry) != taps - 1:
        raise VerifyError(f"{len(entry)} gaps between {taps} taps, not {taps - 1}")
    total: Dim = 1
    for gap in entry:
        total = total + gap
    return total


def reaches(
    kernel: Sequence[Dim],
    dilation: Dilation,
    groups: Dim,
    group_dilation: tuple[Dilation, ...] = (),
) -> tuple[Dim, Dim]:
    """Rows and columns of the window of all groups: those of the largest run.

    Raises:
        VerifyError: the gaps do not fit the kernel, or the runs not the groups.
    """
    if not group_dilation:
        return reach(dilation[0], kernel[0]), reach(dilation[1], kernel[1])
    if dilation != (1, 1):
        raise VerifyError(
            f"dilation={dilation} beside group_dilation", do="leave it at (1, 1)"
        )
    if isinstance(groups, int) and groups % len(group_dilation):
        raise VerifyError(f"{len(group_dilation)} runs do not divide {groups} groups")
    found = [
        [reach(pair[axis], kernel[axis]) for pair in group_dilation] for axis in (0, 1)
    ]
    return reduce(maximum, found[0]), reduce(maximum, found[1])


def before_runs(
    kernel: Sequence[int], runs: Sequence[Dilation]
) -> list[tuple[int, int]]:
    """Rows above and columns left of each run's taps in the window of the largest:
    half of what is missing, rounded down."""
    return [(rows // 2, columns // 2) for rows, columns in _spare(kernel, runs)]


def run_paddings(
    kernel: Sequence[int], runs: Sequence[Dilation], padding: Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """Padding of each run's own filter that leaves its taps where they lie in the
    window of the largest."""
    top, bottom, left, right = padding
    return [
        (
            top - rows // 2,
            bottom - rows + rows // 2,
            left - columns // 2,
            right - columns + columns // 2,
        )
        for rows, columns in _spare(kernel, runs)
    ]


def stretches(
    runs: Sequence[Dilation],
) -> dict[Dilation, list[tuple[int, int]]]:
    """Neighbouring runs of each dilation: the first, and how many."""
    found: dict[Dilation, list[tuple[int, int]]] = {}
    for run, dilation in enumerate(runs):
        mine = found.setdefault(dilation, [])
        if mine and sum(mine[-1]) == run:
            mine[-1] = mine[-1][0], mine[-1][1] + 1
        else:
            mine.append((run, 1))
    return found


def _spare(kernel: Sequence[int], runs: Sequence[Dilation]) -> list[tuple[int, int]]:
    """Rows and columns that the largest window has more than each run's own."""
    own: list[Any] = [[reach(pair[i], kernel[i]) for i in (0, 1)] for pair in runs]
    most = [max(extents) for extents in zip(*own, strict=True)]
    return [(most[0] - rows, most[1] - columns) for rows, columns in own]


def _listed(entry: tuple[Dim, ...]) -> str:
    return f"({', '.join(map(str, entry))})"
