"""The loops around the tiles of a windowed kernel.

For each row of tiles and each vector of channels: the tiles at the left border, a loop
over those in the middle, the tiles at the right border. What lies at the border has
code of its own, so that nothing is asked in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from tvm import tirx
from tvm.tirx import AllocBuffer, Bind, ForKind

from gos_fx.kernels.schedules.loops import cases, const, loop, once
from gos_fx.kernels.schedules.window_place import Place, Weights, Window
from gos_fx.kernels.schedules.window_tile import Tile
from gos_fx.kernels.window_tiles import WindowPlan


@dataclass(frozen=True)
class WindowCode:
    """Statements of a plan."""

    plan: WindowPlan
    window: Window

    def body(self, parallel: bool) -> Any:
        """All of them; in parallel over parts of the channels and rows of tiles."""
        plan = self.plan
        rows, per_chunk = plan.rows.blocks, -(-plan.vectors // plan.chunks)
        buffers = (self.window.kept, self.window.gathered)

        def part(p: Any) -> list[Any]:
            row, above = tirx.floormod(p, const(rows)), tirx.floordiv(p, const(rows))
            n = tirx.floordiv(above, const(plan.chunks))
            begin = tirx.floormod(above, const(plan.chunks)) * const(per_chunk)
            end = tirx.min(begin + const(per_chunk), const(plan.vectors))
            return [
                *(AllocBuffer(b) for b in buffers if b is not None),
                loop("v", begin, end, lambda v: self._vector(n, row, v)),
            ]

        kind = ForKind.PARALLEL if parallel else ForKind.SERIAL
        return loop("p", 0, plan.batch * rows * plan.chunks, part, kind)

    def _vector(self, n: Any, row: Any, vector: Any) -> list[Any]:
        """A row of tiles for one vector of channels."""
        plan = self.plan
        first = vector * const(plan.width)
        if plan.channels % plan.width:  # the last vector begins where it still fits
            first = tirx.min(first, const(plan.channels - plan.width))
        channel = tirx.Var("channel", "int32")
        found: list[Any] = [Bind(channel, first)]
        weights = None
        if self.window.weights is not None:
            weights = Weights(self.window, plan.width, vector)
            if plan.resident and plan.per_group == 1:
                for kh, kw in product(range(plan.rows.taps), range(plan.columns.taps)):
                    weights.get(found, const(0), const(kh), const(kw))
        found.append(self._row(Place(n, row, row, vector, channel), weights))
        return found

    def _row(self, place: Place, weights: Weights | None) -> Any:
        rows = self.plan.rows
        always = tirx.const(1, "bool")
        if "kh" in self.plan.loops:
            return cases([(always, self._columns(place, weights))])
        found = []
        if rows.whole:
            low, high = rows.whole.start, rows.whole.stop
            middle = tirx.all(place.row >= const(low), place.row < const(high))
            found.append((middle, self._columns(place, weights)))
        for block in rows.edges:
            is_here = tirx.EQ(place.row, const(block))
            found.append((is_here, self._columns(place.at_row(block), weights)))
        return cases(found)

    def _columns(self, place: Place, weights: Weights | None) -> list[Any]:
        columns = self.plan.columns

        def tiles(begin: int, end: int) -> list[Any]:
            def tile(j: Any) -> list[Any]:
                return [once(), *self._tile(replace(place, column=j), weights)]

            return [loop("j", begin, end, tile)] if begin < end else []

        if "kw" in self.plan.loops:
            return tiles(0, columns.blocks)
        middle = columns.whole
        left = [b for b in columns.edges if not middle or b < middle.start]
        right = [b for b in columns.edges if b not in left]
        return [
            *(s for b in left for s in self._tile(place.at_column(b), weights)),
            *tiles(middle.start, middle.stop),
            *(s for b in right for s in self._tile(place.at_column(b), weights)),
        ]

    def _tile(self, place: Place, weights: Weights | None) -> list[Any]:
        return Tile(self.plan, self.window, place, weights).statements()
