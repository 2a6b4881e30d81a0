"""Accumulators side by side, in registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore

from gos_fx.kernels.schedules.loops import by_lane, const, over

Combine = Callable[[Any, Any], Any]
Pick = Callable[[Any], Any]


@dataclass(frozen=True)
class Sums:
    """Accumulators side by side, which LLVM keeps in registers."""

    buffer: Any
    width: int

    @staticmethod
    def of(width: int) -> Sums:
        return Sums(tirx.decl_buffer((width,), "float32", "kept"), width)

    @property
    def allocated(self) -> Any:
        return AllocBuffer(self.buffer)

    def at(self, lane: Any) -> Any:
        return BufferLoad(self.buffer, [lane])

    def keep(self, lane: Any, value: Any) -> Any:
        return BufferStore(self.buffer, value, [lane])

    def over(
        self,
        extent: int,
        combine: Combine,
        start: float,
        pick: Pick,
        also: Callable[[Any], list[Any]] | None = None,
    ) -> list[Any]:
        """All elements combined into lane 0; ``also`` comes before each is picked."""
        begin = tirx.const(start, "float32")

        def add(first: Any, lane: Any) -> list[Any]:
            value = combine(self.at(lane), pick(first + lane))
            before = [] if also is None else also(first + lane)
            return [*before, self.keep(lane, value)]

        found = [by_lane(self.width, lambda lane: [self.keep(lane, begin)])]
        found += over(extent, self.width, add)
        half = self.width // 2
        while half:
            found.append(self._fold(half, combine))
            half //= 2
        return found

    def _fold(self, half: int, combine: Combine) -> Any:
        def fold(lane: Any) -> list[Any]:
            value = combine(self.at(lane), self.at(lane + const(half)))
            return [self.keep(lane, value)]

        return by_lane(half, fold)
