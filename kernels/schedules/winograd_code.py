"""The loops of a Winograd convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any

from tvm import tirx
from tvm.ir import StringImm
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore, ForKind, Ramp

from gos_fx.kernels.microkernels import STEPS, tile_kernel
from gos_fx.kernels.schedules.element import Element
from gos_fx.kernels.schedules.loops import bound, cases, const, loop
from gos_fx.kernels.schedules.winograd_transform import (
    input_transform,
    output_transform,
)
from gos_fx.kernels.winograd_tiles import WinogradPlan

# LLVM code in the value of this attribute becomes part of the module.
_IMPORT = "pragma_import_llvm"
_FLOAT = "float32"
# Floats between the matrices of two points: with a power of two from one to the next,
# the same tile of all points would lie in the same set of the cache.
_APART = 16


@dataclass(frozen=True)
class WinogradCode:
    """Statements of a plan.

    Attributes:
        x, packed: buffers ``[n, h, w, ci]`` and ``[co blocks, point, run, co]``.
        element: the epilogue; its last buffer is the output ``[n, h, w, co]``.
        lanes: of a vector register.
        in_order: the products are microkernels.
    """

    plan: WinogradPlan
    x: Any
    packed: Any
    element: Element
    lanes: int
    in_order: bool

    @property
    def run(self) -> int:
        """Input channels of the transformed tiles, rounded up with zeros."""
        return int(self.packed.shape[2])

    @cached_property
    def transformed(self) -> Any:
        """The tiles of :meth:`_input_at`."""
        size = self.plan.points * self._apart(self.run)
        return tirx.decl_buffer((size,), _FLOAT, "inputs")

    @cached_property
    def multiplied(self) -> Any:
        """The sums of :meth:`_sum_at`."""
        size = self.plan.points * self._apart(self.plan.group)
        return tirx.decl_buffer((size,), _FLOAT, "products")

    def _apart(self, channels: int) -> int:
        """Floats from the tiles of a point to those of the next."""
        return self.plan.chunk * channels + _APART

    def _input_at(self, xi: Any, t: Any, channel: Any) -> Any:
        """Place of ``[point, tile, ci]``."""
        return xi * const(self._apart(self.run)) + t * const(self.run) + channel

    def _sum_at(self, xi: Any, t: Any, channel: Any) -> Any:
        """Place of ``[point, tile, co of the group]``."""
        group = self.plan.group
        return xi * const(self._apart(group)) + t * const(group) + channel

    def body(self, parallel: bool) -> list[Any]:
        """All statements."""
        plan = self.plan
        kind = ForKind.PARALLEL if parallel else ForKind.SERIAL
        chunks, inner = (kind, ForKind.SERIAL)
        if not plan.by_chunks:
            chunks, inner = inner, chunks

        def chunk(begin: Any, end: Any) -> Callable[[Any], list[Any]]:
            def statements(c: Any) -> list[Any]:
                found: list[Any] = [AllocBuffer(self.transformed)]
                last = const(plan.tiles - plan.chunk)
                first = bound(found, "first", tirx.min(c * const(plan.chunk), last))
                tiles, group = self._input, self._group
                found.append(loop("t", 0, plan.chunk, lambda t: tiles(first, t), inner))
                if plan.groups == 1:
                    return found + group(first, const(0), inner)
                found.append(loop("g", begin, end, lambda g: group(first, g), inner))
                return found

            return statements

        per = plan.block // plan.group

        def share(s: Any) -> list[Any]:
            begin = s * const(per)
            end = tirx.min(begin + const(per), const(plan.groups))
            return [loop("c", 0, plan.chunks, chunk(begin, end), chunks)]

        if per >= plan.groups:
            every = chunk(const(0), const(plan.groups))
            return [loop("c", 0, plan.chunks, every, chunks)]
        return [loop("s", 0, -(-plan.groups // per), share)]

    def _place(self, found: list[Any], tile: Any) -> tuple[Any, Any, Any]:
        """Image, row and column of a tile."""
        rows, columns = self.plan.grid
        n = bound(found, "n", tirx.floordiv(tile, const(rows * columns)))
        within = bound(found, "within", tirx.floormod(tile, const(rows * columns)))
        i = bound(found, "i", tirx.floordiv(within, const(columns)))
        return n, i, bound(found, "j", tirx.floormod(within, const(columns)))

    # Inputs

    def _input(self, first: Any, t: Any) -> list[Any]:
        plan, form = self.plan, self.plan.form
        width = gcd(plan.inputs, self.lanes)
        half = tirx.decl_buffer((form.size, form.size, width), _FLOAT, "half")
        found: list[Any] = [AllocBuffer(half)]
        n, i, j = self._place(found, first + t)
        height, columns = (int(self.x.shape[d]) for d in (1, 2))
        top, left = plan.before
        row = bound(found, "row", i * const(form.outputs) - const(top))
        column = bound(found, "column", j * const(form.outputs) - const(left))

        def vector(inside: range) -> Callable[[Any], list[Any]]:
            return lambda v: self._input_vector(
                half, n, row, column, t, v * const(width), inside, height
            )

        kinds: dict[range, list[int]] = {}
        for block in range(plan.grid[1]):
            start = block * form.outputs - left
            low = min(max(0, -start), form.size)
            kinds.setdefault(
                range(low, max(low, min(form.size, columns - start))), []
            ).append(block)
        usual = max(kinds, key=lambda k: len(kinds[k]))
        options = []
        for inside, blocks in kinds.items():
            if inside != usual:
                here = tirx.any(*(tirx.EQ(j, const(b)) for b in blocks))
                options.append((here, inside))
        options.append((tirx.const(1, "bool"), usual))
        vectors = plan.inputs // width
        found.append(
            cases([(c, [loop("v", 0, vectors, vector(k))]) for c, k in options])
        )
        if self.run > plan.inputs:
            found.append(self._zeros(t))
        return found

    def _zeros(self, t: Any) -> Any:
        """Channels that are there for the sake of round numbers."""
        first = const(self.plan.inputs)

        def store(xi: Any) -> list[Any]:
            def channel(c: Any) -> list[Any]:
                zero = tirx.const(0, _FLOAT)
                return [
                    BufferStore(
                        self.transformed, zero, [self._input_at(xi, t, first + c)]
                    )
                ]

            return [loop("c", 0, self.run - self.plan.inputs, channel)]

        return loop("xi", 0, self.plan.points, store)

    def _input_vector(
        self,
        half: Any,
        n: Any,
        row: Any,
        column: Any,
        t: Any,
        channel: Any,
        inside: range,
        height: int,
    ) -> list[Any]:
        form, size = self.plan.form, self.plan.form.size
        width = int(half.shape[2])
        lane, channels = _vector(const(0), width), _vector(channel, width)
        zero = tirx.const(0, _FLOAT)
        nothing = tirx.Broadcast(zero, width) if width > 1 else zero

        def one_row(r: Any) -> list[Any]:
            found: list[Any] = []
            at = bound(found, "at", row + r)

            def read() -> list[Any]:
                inner: list[Any] = []
                values = []
                for k in range(size):
                    if k in inside:
                        load = BufferLoad(self.x, [n, at, column + const(k), channels])
                        values.append(bound(inner, "x", load))
                    else:
                        values.append(nothing)
                made = input_transform(form, values, _keeper(inner))
                inner += [
                    BufferStore(half, value, [r, const(k), lane])
                    for k, value in enumerate(made)
                ]
                return inner

            outside = [
                BufferStore(half, nothing, [r, const(k), lane]) for k in range(size)
            ]
            is_inside = tirx.all(at >= const(0), at < const(height))
            always = tirx.const(1, "bool")
            found.append(cases([(is_inside, read()), (always, outside)]))
            return found

        def one_column(k: Any) -> list[Any]:
            found: list[Any] = []
            values = [
                bound(found, "h", BufferLoad(half, [const(r), k, lane]))
                for r in range(size)
            ]
            made = input_transform(form, values, _keeper(found))
            for r, value in enumerate(made):
                at = self._input_at(const(r * size) + k, t, channel)
                store = BufferStore(self.transformed, value, [_vector(at, width)])
                found.append(store)
            return found

        return [
            loop("r", 0, size, one_row),
            loop("k", 0, size, one_column),
        ]

    # Products

    def _group(self, first: Any, g: Any, kind: ForKind = ForKind.SERIAL) -> list[Any]:
        """A group of output channels."""
        plan = self.plan
        per = plan.group // plan.co
        found: list[Any] = [AllocBuffer(self.multiplied)]
        blocks = const(int(self.packed.shape[0])) - g * const(per)
        blocks = bound(found, "blocks", tirx.min(const(per), blocks))
        width = gcd(plan.outputs, self.lanes)
        rest = const(plan.outputs // width) - g * const(plan.group // width)
        vectors = bound(found, "vectors", tirx.min(const(plan.group // width), rest))

        def point(xi: Any) -> list[Any]:
            def block(o: Any) -> list[Any]:
                def pixels(p: Any) -> list[Any]:
                    last = const(plan.chunk - plan.pixels)
                    inner: list[Any] = []
                    start = tirx.min(p * const(plan.pixels), last)
                    start = bound(inner, "start", start)
                    return inner + self._block(xi, start, g * const(per) + o, o)

                return [loop("p", 0, -(-plan.chunk // plan.pixels), pixels)]

            return [loop("o", const(0), blocks, block)]

        def tile(t: Any) -> list[Any]:
            return self._output(first, t, g, vectors, width)

        return [
            *found,
            loop("xi", 0, plan.points, point, kind),
            loop("t", 0, plan.chunk, tile, kind),
        ]

    def _block(self, xi: Any, start: Any, block: Any, local: Any) -> list[Any]:
        if self.in_order:
            return self._microkernel(xi, start, block, local)
        plan, lanes = self.plan, self.lanes
        vectors = plan.co // lanes
        sums = [
            [tirx.decl_buffer((lanes,), _FLOAT, "sum") for _ in range(vectors)]
            for _ in range(plan.pixels)
        ]
        flat = [buffer for row in sums for buffer in row]
        whole = [Ramp(0, 1, lanes)]
        zero = tirx.Broadcast(tirx.const(0, _FLOAT), lanes)
        found: list[Any] = [AllocBuffer(buffer) for buffer in flat]
        found += [BufferStore(buffer, zero, whole) for buffer in flat]

        def step(k: Any) -> list[Any]:
            inner: list[Any] = []
            weights = [
                bound(
                    inner,
                    "w",
                    BufferLoad(
                        self.packed, [block, xi, k, Ramp(const(v * lanes), 1, lanes)]
                    ),
                )
                for v in range(vectors)
            ]
            for p, row in enumerate(sums):
                number = BufferLoad(
                    self.transformed, [self._input_at(xi, start + const(p), k)]
                )
                value = bound(inner, "x", tirx.Broadcast(number, lanes))
                for weight, buffer in zip(weights, row):
                    total = BufferLoad(buffer, whole) + value * weight
                    inner.append(BufferStore(buffer, total, whole))
            return inner

        found.append(loop("k", 0, self.run, step))
        for p, row in enumerate(sums):
            for v, buffer in enumerate(row):
                channel = local * const(plan.co) + const(v * lanes)
                at = self._sum_at(xi, start + const(p), channel)
                load = BufferLoad(buffer, whole)
                store = BufferStore(self.multiplied, load, [_vector(at, lanes)])
                found.append(store)
        return found

    def _microkernel(self, xi: Any, start: Any, block: Any, local: Any) -> list[Any]:
        plan, lanes = self.plan, self.lanes
        offsets = tuple(4 * self.run * p for p in range(plan.pixels))
        kernel = tile_kernel(plan.co // lanes, offsets)
        acc = tirx.decl_buffer((plan.pixels, plan.co), _FLOAT, "acc")
        found: list[Any] = [AllocBuffer(acc)]
        zero = tirx.Broadcast(tirx.const(0, _FLOAT), lanes)
        places = [(p, v) for p in range(plan.pixels) for v in range(0, plan.co, lanes)]
        found += [
            BufferStore(acc, zero, [const(p), Ramp(v, 1, lanes)]) for p, v in places
        ]
        none = const(0)
        starts = (
            BufferLoad(acc, [none, none]),
            BufferLoad(self.transformed, [self._input_at(xi, start, none)]),
            BufferLoad(self.packed, [block, xi, none, none]),
        )
        call = tirx.call_extern(
            "void",
            kernel.name,
            *map(tirx.address_of, starts),
            tirx.IntImm("int64", self.run // STEPS),
        )
        text = StringImm(kernel.llvm_ir)
        found.append(tirx.AttrStmt(const(0), _IMPORT, text, tirx.Evaluate(call)))
        for p, v in places:
            load = BufferLoad(acc, [const(p), Ramp(v, 1, lanes)])
            channel = local * const(plan.co) + const(v)
            at = _vector(self._sum_at(xi, start + const(p), channel), lanes)
            found.append(BufferStore(self.multiplied, load, [at]))
        return found

    # Outputs

    def _output(
        self, first: Any, t: Any, g: Any, vectors: Any, width: int
    ) -> list[Any]:
        plan, form = self.plan, self.plan.form
        found: list[Any] = []
        n, i, j = self._place(found, first + t)
        row = bound(found, "row", i * const(form.outputs))
        column = bound(found, "column", j * const(form.outputs))
        tail = plan.columns % form.outputs
        channel = g * const(plan.group)

        def vector(count: int) -> Callable[[Any], list[Any]]:
            return lambda v: self._output_vector(
                n, row, column, t, v * const(width), channel, width, count
            )

        options = []
        if tail:
            last = tirx.EQ(j, const(plan.grid[1] - 1))
            options.append((last, [loop("v", const(0), vectors, vector(tail))]))
        if not tail or plan.grid[1] > 1:
            always = tirx.const(1, "bool")
            usual = loop("v", const(0), vectors, vector(form.outputs))
            options.append((always, [usual]))
        found.append(cases(options))
        return found

    def _output_vector(
        self,
        n: Any,
        row: Any,
        column: Any,
        t: Any,
        local: Any,
        channel: Any,
        width: int,
        count: int,
    ) -> list[Any]:
        plan, form, size = self.plan, self.plan.form, self.plan.form.size
        found: list[Any] = []
        half: list[list[Any]] = []
        for k in range(size):
            values = []
            for r in range(size):
                at = _vector(self._sum_at(const(r * size + k), t, local), width)
                values.append(bound(found, "m", BufferLoad(self.multiplied, [at])))
            half.append(output_transform(form, values, _keeper(found)))
        for r in range(form.outputs):
            inner: list[Any] = []
            made = output_transform(form, [h[r] for h in half], _keeper(inner))
            kept = tirx.decl_buffer((count, width), _FLOAT, "kept")
            inner.append(AllocBuffer(kept))
            lane = _vector(const(0), width)
            for k in range(count):
                inner.append(BufferStore(kept, made[k], [const(k), lane]))
            for k in range(count):
                at = (n, row + const(r), column + const(k))

                def store(lane: Any, at: Sequence[Any] = at, k: int = k) -> list[Any]:
                    index = [*at, channel + local + lane]
                    value = BufferLoad(kept, [const(k), lane])
                    result = self.element.value(index, value)
                    return [BufferStore(self.element.buffers[-1], result, index)]

                inner.append(loop("lane", 0, width, store, ForKind.VECTORIZED))
            if plan.rows % form.outputs and r:
                condition = row + const(r) < const(plan.rows)
                found.append(tirx.IfThenElse(condition, tirx.SeqStmt(inner), None))
            else:
                found += inner
        return found


def _vector(first: Any, width: int) -> Any:
    return Ramp(first, 1, width) if width > 1 else first


def _keeper(found: list[Any]) -> Callable[[Any], Any]:
    return lambda value: bound(found, "v", value)
