"""The transform of the outputs of a Winograd convolution, and its epilogue."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

from tvm import tirx
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore

from gos_fx.kernels.schedules.element import Element
from gos_fx.kernels.schedules.loops import bound, by_lane, cases, const, loop
from gos_fx.kernels.schedules.winograd_scratch import FLOAT, Scratch, vector
from gos_fx.kernels.schedules.winograd_transform import keeper, output_transform
from gos_fx.kernels.winograd_tiles import WinogradPlan


@dataclass(frozen=True)
class OutputTile:
    """A tile of the channels of a group.

    Attributes:
        element: the epilogue; its last buffer is the output ``[n, h, w, co]``.
        lanes: of a vector register.
    """

    plan: WinogradPlan
    scratch: Scratch
    element: Element
    lanes: int

    @property
    def width(self) -> int:
        """Channels of a vector."""
        return gcd(self.plan.outputs, self.lanes)

    def statements(
        self, t: Any, place: tuple[Any, Any, Any], group: Any, blocks: Any
    ) -> list[Any]:
        """Tile ``t`` of the chunk, which is that of an image, row and column."""
        plan, form = self.plan, self.plan.form
        n, i, j = place
        found: list[Any] = []
        row = bound(found, "row", i * const(form.outputs))
        column = bound(found, "column", j * const(form.outputs))
        first = group * const(plan.group)

        def channels(count: int) -> list[Any]:
            def block(o: Any) -> list[Any]:
                inner: list[Any] = []
                begin = bound(inner, "begin", first + o * const(plan.co))
                rest = tirx.min(const(plan.co), const(plan.outputs) - begin)
                vectors = tirx.floordiv(rest, const(self.width))

                def one(v: Any) -> list[Any]:
                    local = v * const(self.width)
                    at = (n, row, column, begin + local)
                    return self._vector(t, o, local, at, count)

                return [*inner, loop("v", const(0), vectors, one)]

            return [loop("o", const(0), blocks, block)]

        always = tirx.const(1, "bool")
        options = []
        tail = plan.columns % form.outputs
        if tail:
            last = tirx.EQ(j, const(plan.grid[1] - 1))
            options.append((last, channels(tail)))
        if plan.columns >= form.outputs:
            options.append((always, channels(form.outputs)))
        return [*found, cases(options)]

    def _vector(
        self, t: Any, block: Any, local: Any, at: tuple[Any, ...], count: int
    ) -> list[Any]:
        """Writes ``count`` columns, first transformed by columns, then by rows."""
        form, scratch, size = self.plan.form, self.scratch, self.plan.form.size
        found: list[Any] = []
        columns = []
        for k in range(size):
            values = []
            for r in range(size):
                index = scratch.product_at(const(r * size + k), block, t, local)
                load = BufferLoad(scratch.products, [vector(index, self.width)])
                values.append(bound(found, "m", load))
            columns.append(output_transform(form, values, keeper(found)))
        for r in range(form.outputs):
            row = self._row([column[r] for column in columns], r, at, count)
            if self.plan.rows % form.outputs and r:
                condition = at[1] + const(r) < const(self.plan.rows)
                row = [tirx.IfThenElse(condition, tirx.SeqStmt(row), None)]
            found += row
        return found

    def _row(
        self, values: list[Any], r: int, at: tuple[Any, ...], count: int
    ) -> list[Any]:
        n, row, column, channel = at
        found: list[Any] = []
        made = output_transform(self.plan.form, values, keeper(found))
        kept = tirx.decl_buffer((count, self.width), FLOAT, "kept")
        found.append(AllocBuffer(kept))
        for k in range(count):
            index = [const(k), vector(const(0), self.width)]
            found.append(BufferStore(kept, made[k], index))
        for k in range(count):
            place = [n, row + const(r), column + const(k)]
            found.append(self._store(kept, k, place, channel))
        return found

    def _store(self, kept: Any, k: int, place: list[Any], channel: Any) -> Any:
        def element(lane: Any) -> list[Any]:
            index = [*place, channel + lane]
            result = self.element.value(index, BufferLoad(kept, [const(k), lane]))
            return [BufferStore(self.element.buffers[-1], result, index)]

        return by_lane(self.width, element)
