"""A register block of the products of a Winograd convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore

from gos_fx.kernels.microkernels import STEPS, tile_kernel
from gos_fx.kernels.schedules.loops import bound, call_llvm, const, loop
from gos_fx.kernels.schedules.winograd_scratch import FLOAT, Scratch, vector
from gos_fx.kernels.winograd_tiles import WinogradPlan


@dataclass(frozen=True)
class Product:
    """``products[tile, co] = sum_ci inputs[tile, ci] * packed[ci, co]`` at a point.

    Attributes:
        packed: buffer ``[co blocks, point, ci, co]``.
        lanes: of a vector register.
        in_order: the sums are a microkernel.
    """

    plan: WinogradPlan
    scratch: Scratch
    packed: Any
    lanes: int
    in_order: bool

    def statements(self, point: Any, first: Any, block: Any, local: Any) -> list[Any]:
        """``pixels`` tiles from ``first`` and a block of channels, ``local`` in its
        group."""
        if self.in_order:
            return [self._microkernel(point, first, block, local)]
        return self._sums(point, first, block, local)

    def _microkernel(self, point: Any, first: Any, block: Any, local: Any) -> Any:
        plan, scratch, none = self.plan, self.scratch, const(0)
        offsets = tuple(4 * plan.inputs * p for p in range(plan.pixels))
        vectors, tail = plan.co // self.lanes, plan.inputs % STEPS
        kernel = tile_kernel(vectors, offsets, start="zero", tail=tail)
        ends = (
            (scratch.products, [scratch.product_at(point, local, first, none)]),
            (scratch.inputs, [scratch.input_at(point, first, none)]),
            (self.packed, [block, point, none, none]),
        )
        arguments = [tirx.address_of(BufferLoad(b, index)) for b, index in ends]
        arguments.append(tirx.IntImm("int64", plan.inputs // STEPS))
        return call_llvm(kernel.name, kernel.llvm_ir, arguments)

    def _sums(self, point: Any, first: Any, block: Any, local: Any) -> list[Any]:
        """Each sum is a buffer of its own, which LLVM makes a register of."""
        plan, lanes = self.plan, self.lanes
        starts = range(0, plan.co, lanes)
        sums = {
            (p, v): tirx.decl_buffer((lanes,), FLOAT, "sum")
            for p in range(plan.pixels)
            for v in starts
        }
        whole = [vector(const(0), lanes)]
        zero = tirx.Broadcast(tirx.const(0, FLOAT), lanes)

        def step(k: Any) -> list[Any]:
            found: list[Any] = []
            weights = {}
            for v in starts:
                at = [block, point, k, vector(const(v), lanes)]
                weights[v] = bound(found, "w", BufferLoad(self.packed, at))
            numbers = []
            for p in range(plan.pixels):
                at = [self.scratch.input_at(point, first + const(p), k)]
                number = BufferLoad(self.scratch.inputs, at)
                numbers.append(bound(found, "x", tirx.Broadcast(number, lanes)))
            for (p, v), buffer in sums.items():
                total = BufferLoad(buffer, whole) + numbers[p] * weights[v]
                found.append(BufferStore(buffer, total, whole))
            return found

        found: list[Any] = [AllocBuffer(buffer) for buffer in sums.values()]
        found += [BufferStore(buffer, zero, whole) for buffer in sums.values()]
        found.append(loop("k", 0, plan.inputs, step))
        for (p, v), buffer in sums.items():
            tile = first + const(p)
            at = self.scratch.product_at(point, local, tile, const(v))
            value = BufferLoad(buffer, whole)
            found.append(BufferStore(self.scratch.products, value, [vector(at, lanes)]))
        return found
