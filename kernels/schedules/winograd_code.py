"""The loops of a Winograd convolution around its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx import AllocBuffer, ForKind

from gos_fx.kernels.schedules.loops import bound, const, loop
from gos_fx.kernels.schedules.winograd_input import InputTile
from gos_fx.kernels.schedules.winograd_output import OutputTile
from gos_fx.kernels.schedules.winograd_product import Product
from gos_fx.kernels.schedules.winograd_scratch import Scratch
from gos_fx.kernels.winograd_tiles import WinogradPlan


@dataclass(frozen=True)
class WinogradCode:
    """Statements of a plan."""

    plan: WinogradPlan
    scratch: Scratch
    inputs: InputTile
    product: Product
    outputs: OutputTile

    def body(self, parallel: bool) -> Any:
        """All of them."""
        plan = self.plan
        kind = ForKind.PARALLEL if parallel else ForKind.SERIAL
        chunks, inside = kind, ForKind.SERIAL
        if not plan.by_chunks:
            chunks, inside = inside, chunks
        per = plan.block // plan.group

        def block(s: Any) -> list[Any]:
            begin = s * const(per)
            end = tirx.min(begin + const(per), const(plan.groups))
            return [loop("c", 0, plan.chunks, self._chunk(begin, end, inside), chunks)]

        if per < plan.groups:
            return loop("s", 0, -(-plan.groups // per), block)
        every = self._chunk(const(0), const(plan.groups), inside)
        return loop("c", 0, plan.chunks, every, chunks)

    def _chunk(self, begin: Any, end: Any, kind: ForKind) -> Callable[[Any], list[Any]]:
        """A chunk of tiles for the groups from ``begin`` to ``end``."""
        plan = self.plan

        def statements(c: Any) -> list[Any]:
            found: list[Any] = [AllocBuffer(self.scratch.inputs)]
            last = const(plan.tiles - plan.chunk)
            first = bound(found, "first", tirx.min(c * const(plan.chunk), last))

            def tile(t: Any) -> list[Any]:
                inner: list[Any] = []
                return inner + self.inputs.statements(t, *self._place(inner, first + t))

            found.append(loop("t", 0, plan.chunk, tile, kind))
            if plan.groups == 1:
                return found + self._group(first, const(0), kind)
            groups = loop(
                "g", begin, end, lambda g: self._group(first, g, ForKind.SERIAL), kind
            )
            return [*found, groups]

        return statements

    def _group(self, first: Any, g: Any, kind: ForKind) -> list[Any]:
        plan = self.plan
        per = plan.group // plan.co
        found: list[Any] = [AllocBuffer(self.scratch.products)]
        rest = const(-(-plan.outputs // plan.co)) - g * const(per)
        blocks = bound(found, "blocks", tirx.min(const(per), rest))
        last = const(plan.chunk - plan.pixels)

        def point(xi: Any) -> list[Any]:
            def block(o: Any) -> list[Any]:
                def pixels(p: Any) -> list[Any]:
                    inner: list[Any] = []
                    start = tirx.min(p * const(plan.pixels), last)
                    start = bound(inner, "start", start)
                    one = g * const(per) + o
                    return inner + self.product.statements(xi, start, one, o)

                return [loop("p", 0, -(-plan.chunk // plan.pixels), pixels)]

            return [loop("o", const(0), blocks, block)]

        def tile(t: Any) -> list[Any]:
            inner: list[Any] = []
            place = self._place(inner, first + t)
            return inner + self.outputs.statements(t, place, g, blocks)

        return [
            *found,
            loop("xi", 0, plan.points, point, kind),
            loop("t", 0, plan.chunk, tile, kind),
        ]

    def _place(self, found: list[Any], tile: Any) -> tuple[Any, Any, Any]:
        """Image, row and column of a tile."""
        rows, columns = self.plan.grid
        n = bound(found, "n", tirx.floordiv(tile, const(rows * columns)))
        within = bound(found, "within", tirx.floormod(tile, const(rows * columns)))
        i = bound(found, "i", tirx.floordiv(within, const(columns)))
        return n, i, bound(found, "j", tirx.floormod(within, const(columns)))
