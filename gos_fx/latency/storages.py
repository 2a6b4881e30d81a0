"""The storages that TVM's static plan would have for the values of a network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

# A storage serves a request of at least this part of its size (TVM's allocator).
_RANGE = 16


@dataclass(frozen=True)
class Step:
    """A call: what it writes (of so many bytes), reads, and uses while it runs."""

    writes: str
    bytes: int
    reads: tuple[str, ...]
    scratch: int = 0


@dataclass(frozen=True)
class Peaks:
    """Most bytes of storages at one time, without and with scratch memory."""

    storages: int
    together: int


def peaks(steps: Sequence[Step], given: Collection[str]) -> Peaks:
    """Of calls in order, when storages serve one value after another.

    A storage lives from its first value to the end of its last. Outputs have one of
    their own, to the end.

    Args:
        given: the outputs.
    """
    last = {name: i for i, step in enumerate(steps) for name in step.reads}
    last = {step.writes: i for i, step in enumerate(steps)} | last
    sizes: list[int] = []
    begins: list[int] = []
    ends: list[int] = []
    holder: dict[str, int] = {}
    free: list[int] = []
    for i, step in enumerate(steps):
        chosen = _take(step.bytes, sizes, [] if step.writes in given else free)
        if chosen == len(begins):
            begins.append(i)
            ends.append(i)
        holder[step.writes] = chosen
        for name in sorted({step.writes, *step.reads} & holder.keys()):
            ends[holder[name]] = len(steps) if name in given else i
            if last[name] == i and name not in given:
                free.append(holder.pop(name))
    alive = [
        sum(
            size
            for size, begin, end in zip(sizes, begins, ends, strict=True)
            if begin <= i <= end
        )
        for i in range(len(steps))
    ]
    together = [size + step.scratch for size, step in zip(alive, steps, strict=True)]
    return Peaks(max(alive, default=0), max(together, default=0))


def _take(wanted: int, sizes: list[int], free: list[int]) -> int:
    """The smallest free storage that is large enough; else the largest, grown."""
    near = [i for i in free if wanted / _RANGE <= sizes[i] <= wanted * _RANGE]
    enough = [i for i in near if sizes[i] >= wanted]
    if not near:
        sizes.append(wanted)
        return len(sizes) - 1
    chosen = (
        min(enough, key=lambda i: sizes[i])
        if enough
        else max(near, key=lambda i: sizes[i])
    )
    free.remove(chosen)
    sizes[chosen] = max(sizes[chosen], wanted)
    return chosen
