"""Jobs with windows into the cycles of a loop, by earliest deadline."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

J = TypeVar("J", bound=Hashable)
Window = tuple[int, int]

_BLOCKS = 6  # simulated; what those in the middle do is what the loop does


def place(
    period: int,
    cycles: Sequence[int],
    windows: Mapping[J, Window],
    fits: Callable[[int, Sequence[J], J], bool],
    after: Mapping[J, J] | None = None,
) -> dict[J, int] | None:
    """A cycle for each job of a loop's body, the same in each turn.

    Args:
        period: cycles of a turn.
        cycles: those of a turn in which jobs can be done.
        windows: first and last cycle of each job; negative ones are during the turn
            before.
        fits: whether a job can be done in a cycle beside those that are there already.
        after: jobs that another one, in a cycle before, must precede.

    Returns:
        Cycles within the windows, or None if a job is too late or no steady state is
        reached.
    """
    before = after or {}
    waiting = sorted(
        (
            (block * period + last, block, job, first)
            for job, (first, last) in windows.items()
            for block in range(_BLOCKS)
        ),
        key=lambda entry: entry[:2],
    )
    done: list[dict[J, int]] = [{} for _ in range(_BLOCKS)]
    for now in (turn * period + c for turn in range(_BLOCKS - 1) for c in cycles):
        taken: list[J] = []
        left = []
        for entry in waiting:
            deadline, block, job, first = entry
            if now > deadline:
                if block > 1:
                    return None
                continue
            at = now - block * period
            early = at < first or (
                job in before and done[block].get(before[job], at) >= at
            )
            if early or not fits(now % period, taken, job):
                left.append(entry)
                continue
            taken.append(job)
            done[block][job] = at
        waiting = left
    steady = done[_BLOCKS - 3]
    is_steady = steady == done[_BLOCKS - 4] and len(steady) == len(windows)
    return steady if is_steady else None
