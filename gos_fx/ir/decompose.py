"""Cross-correlations with uneven taps as what the code generator knows.

Gaps between the taps of a filter that differ: the sum of correlations with one dilation
each, on parts of the filter. A dilation for each run of groups: a correlation for each
dilation, on the channels of its runs, and the results in their order again. The
paddings put every tap where it was, so nothing is approximated, and only real taps are
multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, TypeVar

from gos_fx.ir.dilation import Entry, run_paddings, stretches, tap_offsets
from gos_fx.ir.fusion import SCHEDULE, aggregates_channels
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.network import Network
from gos_fx.ir.phases import join_phases
from gos_fx.ir.types import AXES, Type

Source = TypeVar("Source", Graph, Network)


def decompose(source: Source) -> Source:
    """A concrete graph or network of the same values, but with no uneven taps in it,
    nor with zeros between the elements of what is correlated."""
    source = join_phases(source)
    if not any(_is_uneven(node) for node in source.nodes):
        return source
    work = _Decomposition(source)
    changed: dict[str, Any] = {"nodes": tuple(work.nodes())}
    if isinstance(source, Network):
        changed["owners"] = work.owners
    return replace(source, **changed)


def _is_uneven(node: Node) -> bool:
    if node.opcode != "cross_correlation":
        return False
    attributes = node.attrs
    if attributes.get("group_dilation"):
        return True
    return any(isinstance(entry, tuple) for entry in attributes["dilation"])


@dataclass(frozen=True)
class _Segment:
    """Neighbouring taps of one dilation: ``size`` from ``first`` on, ``before`` rows
    (columns) behind the filter's first tap and ``after`` in front of its last."""

    first: int
    size: int
    dilation: int
    before: int
    after: int


def _segments(entry: Entry, taps: int) -> list[_Segment]:
    offsets = tap_offsets(entry, taps)
    found, first = [], 0
    while first < taps:
        last = min(first + 1, taps - 1)
        step = offsets[last] - offsets[first]
        while last + 1 < taps and offsets[last + 1] - offsets[last] == step:
            last += 1
        size = last - first + 1
        after = offsets[-1] - offsets[last]
        found.append(_Segment(first, size, max(step, 1), offsets[first], after))
        first = last + 1
    return found


class _Decomposition:
    def __init__(self, source: Graph | Network) -> None:
        self._source = source
        self._outputs = (
            source.outputs if isinstance(source, Network) else (source.output,)
        )
        self.owners = dict(source.owners) if isinstance(source, Network) else {}

    def nodes(self) -> Iterator[Node]:
        """All nodes; those that are taken apart end in one of the old name."""
        waiting: dict[str, _Parts] = {}  # by what reads the maps
        dropped: set[str] = set()
        for node in self._source.nodes:
            if node.name in waiting:
                yield from self._apart(waiting[node.name])
            elif _is_uneven(node):
                *between, last = self._to_aggregate(node) or [node]
                behind = self._schedules(last)
                parts = _Parts(node, last, self._source.types, between, behind)
                if last is node:
                    yield from self._apart(parts)
                else:
                    waiting[last.name] = parts
                    dropped |= {schedule.name for schedule in between}
            elif node.name not in dropped:
                yield node

    def _apart(self, parts: _Parts) -> list[Node]:
        nodes = parts.build()
        owner = self.owners.get(parts.maps.name)
        if owner is not None:
            self.owners |= {node.name: owner for node in nodes}
        return nodes

    def _to_aggregate(self, maps: Node) -> list[Node]:
        """What leads from maps that nothing else reads to their sum over the channels:
        schedule nodes, then the sum; empty where the maps are wanted as they are."""
        found: list[Node] = []
        last = maps
        while last.name not in self._outputs:
            users = self._source.users[last.name]
            if len(users) != 1:
                return []
            (last,) = users
            found.append(last)
            if last.opcode not in SCHEDULE:
                operands = (maps.name, *last.operands[1:])
                is_sum = aggregates_channels(replace(last, operands=operands), maps)
                return found if is_sum else []
        return []

    def _schedules(self, last: Node) -> list[Node]:
        """The schedule nodes that stand on a value."""
        found: list[Node] = []
        names = {last.name}
        for node in self._source.nodes:
            if node.opcode in SCHEDULE and node.operands[0] in names:
                found.append(node)
                names.add(node.name)
        return found


class _Parts:
    """One correlation in parts: its ``maps``, and ``last``, their sum or themselves.

    Every part gets the schedule nodes ``between`` the two. Those ``behind`` stay behind
    the whole; where that is put together of parts, they get them too.
    """

    def __init__(
        self,
        maps: Node,
        last: Node,
        types: Mapping[str, Type],
        between: Sequence[Node],
        behind: Sequence[Node],
    ) -> None:
        self.maps, self._last, self._types = maps, last, dict(types)
        self._nodes: list[Node] = []
        kernel: Any = types[maps.operands[1]].shape[2:]
        self._runs = maps.attrs.get("group_dilation") or (maps.attr("dilation"),)
        pieces = len(set(self._runs)) * prod(
            len(_segments(entry, taps))
            for entry, taps in zip(self._runs[0], kernel, strict=True)
        )
        self._schedules = [*between, *(behind if pieces > 1 else ())]

    def build(self) -> list[Node]:
        x, w = self.maps.operands
        attributes = self.maps.attrs
        groups = attributes.pop("groups")
        attributes.pop("group_dilation", None)
        runs = self._runs
        kernel: Any = self._types[w].shape[2:]
        paddings = run_paddings(kernel, runs, attributes["padding"])
        parts = {}
        for dilation, mine in stretches(runs).items():
            count = sum(n for _, n in mine)
            own = attributes | {"dilation": dilation}
            own["padding"] = paddings[mine[0][0]]
            own["groups"] = groups * count // len(runs)
            channels = self._shares(x, 1, mine, len(runs))
            filters = self._shares(w, 0, mine, len(runs))
            found = self._sum_of_segments(channels, filters, own)
            at = 0  # where each stretch lies in what is computed together
            for first, n in mine:
                parts[first] = found, (at, n), count
                at += n
        if len(parts) > 1:
            pieces = [
                self._shares(value, 1, [stretch], among)
                for _, (value, stretch, among) in sorted(parts.items())
            ]
            self._emit("concat", pieces, self._last.type, axis="co")
        *before, final = self._nodes
        return [*before, replace(final, name=self._last.name)]

    def _sum_of_segments(self, x: str, w: str, attributes: dict[str, Any]) -> str:
        """The correlation of one dilation, as a sum of those with even taps."""
        kernel: Any = self._types[w].shape[2:]
        rows, columns = map(_segments, attributes["dilation"], kernel)
        top, bottom, left, right = attributes["padding"]
        total = ""
        for row, column in product(rows, columns):
            filters = self._slice(w, 2, row.first, row.size)
            filters = self._slice(filters, 3, column.first, column.size)
            padding = (
                top - row.before,
                bottom - row.after,
                left - column.before,
                right - column.after,
            )
            own = {"dilation": (row.dilation, column.dilation), "padding": padding}
            found = self._correlate(x, filters, attributes | own)
            if total:
                found = self._emit("add", (found, total), self._types[found])
            total = found
        return total

    def _correlate(self, x: str, w: str, attributes: dict[str, Any]) -> str:
        outputs = self._types[w].shape[0]
        shape = list(self.maps.type.shape)
        shape[1] = outputs
        kind = replace(self.maps.type, shape=tuple(shape))
        found = self._emit(self.maps.opcode, (x, w), kind, **attributes)
        if self._last is not self.maps:
            del shape[2]  # the input channels
            found = self._emit(
                self._last.opcode,
                (found, *self._last.operands[1:]),
                replace(self._last.type, shape=tuple(shape)),
                **self._last.attrs,
            )
        for schedule in self._schedules:
            kind = self._types[found]
            found = self._emit(schedule.opcode, (found,), kind, **schedule.attrs)
        return found

    def _shares(
        self, value: str, axis: int, stretches: Sequence[tuple[int, int]], runs: int
    ) -> str:
        """What some runs of so many have of an axis, side by side."""
        before = self._types[value]
        extent: Any = before.shape[axis]
        size = extent // runs
        parts = [self._slice(value, axis, i * size, n * size) for i, n in stretches]
        if len(parts) == 1:
            return parts[0]
        count = sum(n for _, n in stretches) * size
        shape = (*before.shape[:axis], count, *before.shape[axis + 1 :])
        name = AXES[before.rank][axis]
        return self._emit("concat", parts, replace(before, shape=shape), axis=name)

    def _slice(self, value: str, axis: int, start: int, size: int) -> str:
        before = self._types[value]
        if size == before.shape[axis]:
            return value
        shape = (*before.shape[:axis], size, *before.shape[axis + 1 :])
        return self._emit(
            *("slice", (value,), replace(before, shape=shape)),
            axis=axis,
            start=start,
            size=size,
            step=1,
        )

    def _emit(
        self, opcode: str, operands: Sequence[str], type: Type, **attributes: Any
    ) -> str:
        name, index = f"{self._last.name}_{opcode}", 0
        while f"{name}{index}" in self._types:
            index += 1
        name = f"{name}{index}"
        self._types[name] = type
        node = Node(name, opcode, tuple(operands), tuple(attributes.items()), type)
        self._nodes.append(node)
        return name
