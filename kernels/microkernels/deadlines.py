"""Jobs with windows into the cycles of a loop, by earliest deadline."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

J = TypeVar("J", bound=Hashable)
Window = tuple[int, int]

_TURNS = 16  # simulated until two of them are alike


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
    waiting: list[tuple[int, int, J, int]] = []
    done: list[dict[J, int]] = [{}]
    for turn in range(_TURNS):
        done.append({})
        for block in (0, 1) if turn == 0 else (turn + 1,):
            start = block * period
            waiting += [
                (start + last, block, job, first)
                for job, (first, last) in windows.items()
            ]
        waiting.sort(key=lambda entry: entry[:2])
        for cycle in cycles:
            now = turn * period + cycle
            taken: list[J] = []
            left = []
            for entry in waiting:
                deadline, block, job, first = entry
                at = now - block * period
                if now > deadline:
                    if block > 1:
                        return None
                elif (
                    at < first
                    or (job in before and done[block].get(before[job], at) >= at)
                    or not fits(cycle, taken, job)
                ):
                    left.append(entry)
                else:
                    taken.append(job)
                    done[block][job] = at
            waiting = left
        steady, ahead = done[turn], done[turn + 1]
        is_whole = len(steady) == len(windows) and turn > 1
        if is_whole and steady == done[turn - 1] and ahead.items() <= steady.items():
            return steady
    return None
