"""The code of one tile of a windowed kernel.

Each input is loaded once and multiplied into every window that it lies in, row by row,
so that few inputs are in registers at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from tvm import tirx
from tvm.tirx import BufferLoad, BufferStore, Ramp

from gos_fx.kernels.microkernels.windows import WindowTile, window_kernel
from gos_fx.kernels.schedules.loops import (
    bound,
    by_lane,
    call_llvm,
    const,
    loop,
    sequence,
)
from gos_fx.kernels.schedules.window_place import (
    Place,
    Step,
    Weights,
    Window,
    clipped,
    single,
    steps,
)
from gos_fx.kernels.window_tiles import WindowPlan

At = tuple[int, int]


class Tile:
    """Statements of the tile at a place."""

    def __init__(
        self, plan: WindowPlan, window: Window, place: Place, weights: Weights | None
    ) -> None:
        self.plan, self.window, self.place, self.weights = plan, window, place, weights
        self.outputs = list(
            product(plan.rows.written(place.at[0]), plan.columns.written(place.at[1]))
        )

    def statements(self) -> list[Any]:
        plan, place = self.plan, self.place
        sums: dict[At, Any] = {}
        found: list[Any] = []
        if plan.loops or plan.per_group > 1:
            for at in self.outputs:
                found.append(self._keep(at, self.window.start))
            found.append(self._around())
        elif not (found := self._microkernel()):
            rows = steps(plan.rows, place.row, place.at[0])
            columns = steps(plan.columns, place.column, place.at[1])
            self._add(found, const(0), rows, columns, sums)
            for at in self.outputs:
                found.append(self._keep(at, sums.get(at, self.window.start)))
        return found + [self._store(at) for at in self.outputs]

    def _microkernel(self) -> list[Any]:
        """A call of the tile's own function; nothing if there is none."""
        plan, window, place = self.plan, self.window, self.place
        rows, columns = plan.rows.reads(place.at[0]), plan.columns.reads(place.at[1])
        if not plan.in_order or not rows or not columns:
            return []
        row, column = window.strides
        inputs = []
        for (i, below), (j, right) in product(rows.items(), columns.items()):
            offset = 4 * ((i - min(rows)) * row + (j - min(columns)) * column)
            readers = tuple(
                (self.outputs.index((r, c)), kh * plan.columns.taps + kw)
                for (r, kh), (c, kw) in product(below, right)
            )
            inputs.append((offset, readers))
        taps = list(product(range(plan.rows.taps), range(plan.columns.taps)))
        kernel = window_kernel(
            WindowTile(
                inputs=tuple(inputs),
                outputs=len(self.outputs),
                weights=len(taps) if self.weights is not None else 0,
                resident=plan.resident,
                sums=window.sums,
            )
        )
        reached = {a for _, readers in inputs for a, _ in readers}
        if kernel is None or len(reached) < len(self.outputs):
            return []
        found: list[Any] = []
        (first, _), *_ = steps(plan.rows, place.row, place.at[0])
        (left, _), *_ = steps(plan.columns, place.column, place.at[1])
        x = window.pixel((place.n, place.channel, first, left))
        weights: list[Any] = []
        if self.weights is not None and plan.resident:
            for kh, kw in taps:
                weights.append(self.weights.get(found, const(0), const(kh), const(kw)))
        elif self.weights is not None:
            weights = [_address(window.weights, [place.vector, *[const(0)] * 4])]
        arguments = [
            _address(window.kept, [const(0), const(0)]),
            _address(window.x, x),
            *weights,
        ]
        return [*found, call_llvm(kernel.name, kernel.llvm_ir, arguments)]

    def _around(self) -> Any:
        """Loops over what is not unrolled; accumulators are kept between turns."""
        plan, place = self.plan, self.place

        def over_channels(ci: Any) -> list[Any]:
            if "kh" not in plan.loops:
                return over_rows(ci, steps(plan.rows, place.row, place.at[0]))
            return [
                loop(
                    "kh",
                    *clipped(plan.rows, place.row),
                    lambda k: over_rows(ci, single(plan.rows, place.row, k)),
                )
            ]

        def over_rows(ci: Any, rows: list[Step]) -> list[Any]:
            if "kw" not in plan.loops:
                columns = steps(plan.columns, place.column, place.at[1])
                return turn(ci, rows, columns)
            return [
                loop(
                    "kw",
                    *clipped(plan.columns, place.column),
                    lambda k: turn(ci, rows, single(plan.columns, place.column, k)),
                )
            ]

        def turn(ci: Any, rows: list[Step], columns: list[Step]) -> list[Any]:
            found: list[Any] = []
            sums = {at: bound(found, "sum", self._kept(at)) for at in self.outputs}
            self._add(found, ci, rows, columns, sums)
            return found + [self._keep(at, sums[at]) for at in self.outputs]

        if plan.per_group == 1:
            return sequence(over_channels(const(0)))
        return loop("ci", 0, plan.per_group, over_channels)

    def _add(
        self,
        found: list[Any],
        ci: Any,
        rows: list[Step],
        columns: list[Step],
        sums: dict[At, Any],
    ) -> None:
        """Every input, added to the sums of the windows that it lies in."""
        plan, window = self.plan, self.window
        weights = self.weights
        if weights is not None and not plan.resident:
            weights = Weights(window, plan.width, self.place.vector)
        for (row, below), (column, right) in product(rows, columns):
            x = self._load(found, ci, row, column)
            for (r, kh), (c, kw) in product(below, right):
                value = x
                if weights is not None:
                    value = x * weights.get(found, ci, kh, kw)
                if (r, c) in sums:
                    value = window.combine(sums[r, c], value)
                sums[r, c] = bound(found, "sum", value)

    def _load(self, found: list[Any], ci: Any, row: Any, column: Any) -> Any:
        """A vector of channels of one pixel."""
        plan, window, place = self.plan, self.window, self.place
        if window.gathered is None:
            lane = self._lanes(place.channel)
            index = window.pixel((place.n, lane, row, column))
            return bound(found, "x", BufferLoad(window.x, list(index)))

        def gather(lane: Any) -> list[Any]:
            group = tirx.floordiv(place.channel + lane, const(plan.per))
            channel = group * const(plan.per_group) + ci
            index = window.pixel((place.n, channel, row, column))
            load = BufferLoad(window.x, list(index))
            return [BufferStore(window.gathered, load, [lane])]

        found.append(by_lane(plan.width, gather))
        load = BufferLoad(window.gathered, [self._lanes(const(0))])
        return bound(found, "x", load)

    def _store(self, at: At) -> Any:
        """The epilogue of one output."""
        plan, window, place = self.plan, self.window, self.place
        counts = [
            axis.count(known, output) if name not in plan.loops else None
            for axis, known, output, name in zip(
                (plan.rows, plan.columns), place.at, at, ("kh", "kw")
            )
        ]
        row, column = (
            block * const(axis.block) + const(output)
            for axis, block, output in zip(
                (plan.rows, plan.columns), (place.row, place.column), at
            )
        )
        for d, (axis, block) in enumerate(
            zip((plan.rows, plan.columns), (place.row, place.column))
        ):
            if counts[d] is None:
                begin, end = clipped(axis, block)
                counts[d] = end - begin

        def element(lane: Any) -> list[Any]:
            index = window.place((place.n, place.channel + lane, row, column))
            value = BufferLoad(window.kept, [const(self.outputs.index(at)), lane])
            result = window.result(index, value, counts)
            return [BufferStore(window.out, result, list(index))]

        return by_lane(plan.width, element)

    def _keep(self, at: At, value: Any) -> Any:
        if self.plan.width > 1 and value is self.window.start:
            value = tirx.Broadcast(value, self.plan.width)
        index = [const(self.outputs.index(at)), self._lanes(const(0))]
        return BufferStore(self.window.kept, value, index)

    def _kept(self, at: At) -> Any:
        index = [const(self.outputs.index(at)), self._lanes(const(0))]
        return BufferLoad(self.window.kept, index)

    def _lanes(self, first: Any) -> Any:
        return Ramp(first, 1, self.plan.width) if self.plan.width > 1 else first


def _address(buffer: Any, index: Sequence[Any]) -> Any:
    return tirx.address_of(BufferLoad(buffer, list(index)))
