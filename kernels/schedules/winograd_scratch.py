"""What a Winograd convolution keeps between its stages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tvm import tirx
from tvm.tirx import Ramp

from gos_fx.kernels.schedules.loops import const
from gos_fx.kernels.winograd_tiles import WinogradPlan

FLOAT = "float32"
# Floats between the matrices of two points: with a power of two from one to the next,
# a tile would lie in the same set of the cache at all points. The buffers have one
# axis, since TVM takes away what is not used between the rows of two.
_APART = 16


@dataclass(frozen=True)
class Scratch:
    """Transformed inputs ``[point, tile, ci]``, products ``[point, block, tile, co]``.

    Blocks are those of a group, ``co`` channels each.
    """

    plan: WinogradPlan

    @cached_property
    def inputs(self) -> Any:
        size = self.plan.points * self._apart(self.plan.inputs)
        return tirx.decl_buffer((size,), FLOAT, "inputs")

    @cached_property
    def products(self) -> Any:
        size = self.plan.points * self._apart(self.plan.group)
        return tirx.decl_buffer((size,), FLOAT, "products")

    def input_at(self, point: Any, tile: Any, channel: Any) -> Any:
        plan = self.plan
        row = point * const(self._apart(plan.inputs)) + tile * const(plan.inputs)
        return row + channel

    def product_at(self, point: Any, block: Any, tile: Any, channel: Any) -> Any:
        plan = self.plan
        row = (block * const(plan.chunk) + tile) * const(plan.co)
        return point * const(self._apart(plan.group)) + row + channel

    def _apart(self, channels: int) -> int:
        return self.plan.chunk * channels + _APART


def vector(first: Any, width: int) -> Any:
    """Indices that lie side by side."""
    return Ramp(first, 1, width) if width > 1 else first
