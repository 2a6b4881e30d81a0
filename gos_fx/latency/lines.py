"""Cache lines between the last cache and DRAM, from the order in which data pass.

A kernel is a list of stages, and a stage sweeps some buffers side by side. A line is
still there when a later sweep comes to it if less than the cache's size was touched in
between; the caches of the emulator, like those of the cores, throw out what was used
least recently. A line that was written is written back when it goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from gos_fx.latency.constants import Constants
from gos_fx.latency.work import Stage, Sweep
from gos_fx.targets.target import Machine

# Points along a sweep at which it is asked what is still there.
_SAMPLES = 4


def last_cache(machine: Machine) -> int:
    """Bytes of the last cache before DRAM."""
    return machine.l2_bytes if machine.l3_bytes is None else machine.l3_bytes


def gone(lines: float, machine: Machine, c: Constants) -> float:
    """The part that is no longer there after these many other lines."""
    share = lines * machine.line_bytes / last_cache(machine)
    return min(1.0, max(0.0, (share - c.cache_from) / (c.cache_to - c.cache_from)))


def lines_of(stages: Sequence[Stage], machine: Machine, c: Constants) -> float:
    """Lines fetched and written back in all stages but the first.

    The first stage is what ran before: it has written the inputs.
    """
    total = 0.0
    for i, stage in enumerate(stages):
        for sweep in stage:
            if i:
                total += sweep.lines * _missed(stages, i, sweep, machine, c)
            if sweep.write:
                total += _written_back(stages, i, sweep, machine, c)
    return total


def _missed(
    stages: Sequence[Stage], at: int, sweep: Sweep, machine: Machine, c: Constants
) -> float:
    if not sweep.fetched:
        return 0.0
    before = _touch(stages, range(at - 1, -1, -1), sweep.buffer)
    if before is None:
        return 1.0
    return _between(stages, before, at, sweep, machine, c)


def _written_back(
    stages: Sequence[Stage], at: int, sweep: Sweep, machine: Machine, c: Constants
) -> float:
    """Lines of a sweep that are dirty and go before they are written again."""
    capacity = last_cache(machine) / machine.line_bytes
    dirty = sweep.lines
    if not at:  # what ran before has left as much as fits
        dirty *= min(1.0, capacity / max(1.0, sum(s.lines for s in stages[0])))
    after = _touch(stages, range(at + 1, len(stages)), sweep.buffer)
    if after is not None:
        (other,) = (s for s in stages[after] if s.buffer == sweep.buffer)
        part = _between(stages, at, after, other, machine, c)
        if not other.write:  # what stays is dirty still
            left = _between(stages, after, len(stages), other, machine, c)
            part += (1.0 - part) * left
        return dirty * part
    return dirty * _between(stages, at, len(stages), sweep, machine, c)


def _touch(stages: Sequence[Stage], order: range, buffer: str) -> int | None:
    for i in order:
        if any(sweep.buffer == buffer for sweep in stages[i]):
            return i
    return None


def _between(
    stages: Sequence[Stage],
    a: int,
    b: int,
    sweep: Sweep,
    machine: Machine,
    c: Constants,
) -> float:
    """The part of a buffer, touched in stage ``a``, that is gone when ``b`` comes."""
    whole = {s.buffer: s.lines for i in range(a + 1, b) for s in stages[i]}
    tail = {s.buffer: s.lines for s in stages[a]}
    head = {}
    if b < len(stages):
        head = {
            s.buffer: s.lines * min(1.0, s.repeats / sweep.repeats) for s in stages[b]
        }
    fixed = sum(whole.values())
    part = 0.0
    for k in range(_SAMPLES):
        at = (k + 0.5) / _SAMPLES
        touched = fixed
        for name in {*tail, *head} - whole.keys():
            touched += min(
                max(tail.get(name, 0.0), head.get(name, 0.0)),
                (1.0 - at) * tail.get(name, 0.0) + at * head.get(name, 0.0),
            )
        part += gone(touched, machine, c)
    return part / _SAMPLES
