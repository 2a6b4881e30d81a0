"""The transform of the inputs of a Winograd convolution."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

from tvm import tirx
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore

from gos_fx.kernels.schedules.loops import bound, cases, const, loop
from gos_fx.kernels.schedules.winograd_scratch import FLOAT, Scratch, vector
from gos_fx.kernels.schedules.winograd_transform import input_transform, keeper
from gos_fx.kernels.winograd_tiles import WinogradPlan


@dataclass(frozen=True)
class InputTile:
    """A tile of all channels, first by rows, then by columns.

    A row outside of the image is zero; which columns are depends on the place of the
    tile in its row, and each such place has code of its own.

    Attributes:
        x: buffer ``[n, h, w, ci]``.
        lanes: of a vector register.
    """

    plan: WinogradPlan
    scratch: Scratch
    x: Any
    lanes: int

    @property
    def width(self) -> int:
        """Channels of a vector."""
        return gcd(self.plan.inputs, self.lanes)

    def statements(self, t: Any, n: Any, i: Any, j: Any) -> list[Any]:
        """Tile ``t`` of the chunk, which is that of row ``i`` and column ``j``."""
        plan, form = self.plan, self.plan.form
        found: list[Any] = []
        # Small enough each that LLVM makes registers of them.
        rows = [
            tirx.decl_buffer((form.size, self.width), FLOAT, "row")
            for _ in range(form.size)
        ]
        found += [AllocBuffer(row) for row in rows]
        top, left = plan.before
        row = bound(found, "row", i * const(form.outputs) - const(top))
        column = bound(found, "column", j * const(form.outputs) - const(left))

        def vectors(inside: range) -> list[Any]:
            def one(v: Any) -> list[Any]:
                channel = v * const(self.width)
                place = (n, row, column, channel)
                made: list[Any] = []
                for r in range(form.size):
                    made += self._row(rows[r], r, place, inside)
                for k in range(form.size):
                    made += self._column(rows, k, t, channel)
                return made

            return [loop("v", 0, plan.inputs // self.width, one)]

        kinds = self._kinds()
        usual = max(kinds, key=lambda inside: len(kinds[inside]))
        options = [
            (tirx.any(*(tirx.EQ(j, const(b)) for b in blocks)), vectors(inside))
            for inside, blocks in kinds.items()
            if inside != usual
        ]
        always = tirx.const(1, "bool")
        return [*found, cases([*options, (always, vectors(usual))])]

    def _kinds(self) -> dict[range, list[int]]:
        """Columns of a tile that lie in the image: the places in a row of tiles."""
        form, left = self.plan.form, self.plan.before[1]
        columns = int(self.x.shape[2])
        found: dict[range, list[int]] = {}
        for block in range(self.plan.grid[1]):
            first = block * form.outputs - left
            low = min(max(0, -first), form.size)
            high = max(low, min(form.size, columns - first))
            found.setdefault(range(low, high), []).append(block)
        return found

    def _row(
        self, kept: Any, r: int, place: tuple[Any, Any, Any, Any], inside: range
    ) -> list[Any]:
        n, row, column, channel = place
        form, width = self.plan.form, self.width
        lane = vector(const(0), width)
        zero = tirx.const(0, FLOAT)
        nothing = tirx.Broadcast(zero, width) if width > 1 else zero
        found: list[Any] = []
        at = bound(found, "at", row + const(r))
        read: list[Any] = []
        values = [nothing] * form.size
        for k in inside:
            index = [n, at, column + const(k), vector(channel, width)]
            values[k] = bound(read, "x", BufferLoad(self.x, index))
        made = input_transform(form, values, keeper(read))
        outside = []
        for k, value in enumerate(made):
            index = [const(k), lane]
            read.append(BufferStore(kept, value, index))
            outside.append(BufferStore(kept, nothing, index))
        is_inside = tirx.all(at >= const(0), at < self.x.shape[1])
        always = tirx.const(1, "bool")
        return [*found, cases([(is_inside, read), (always, outside)])]

    def _column(self, rows: list[Any], k: int, t: Any, channel: Any) -> list[Any]:
        form, width = self.plan.form, self.width
        found: list[Any] = []
        values = []
        for r in range(form.size):
            load = BufferLoad(rows[r], [const(k), vector(const(0), width)])
            values.append(bound(found, "row", load))
        for r, value in enumerate(input_transform(form, values, keeper(found))):
            at = self.scratch.input_at(const(r * form.size + k), t, channel)
            found.append(BufferStore(self.scratch.inputs, value, [vector(at, width)]))
        return found
