"""Kernel -> scheduled function of TVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.default_tiles import default_tile, default_unroll
from gos_fx.kernels.layout import Layout
from gos_fx.kernels.schedule_rule import Job, Scheduled, rule_for
from gos_fx.kernels.tiles import Core, clamp, extents
from gos_fx.kernels.tuning.tuned import tuned


def plan(
    kernel: Kernel,
    types: Mapping[str, Type],
    machine: Core,
    layouts: Mapping[str, Layout] | None = None,
) -> Job:
    """The tile and unroll factors that the kernel is built with.

    Those of its schedule nodes, clamped to its loops; the others as they were tuned, or
    by default.
    """
    kernel = tuned(kernel, types, layouts)
    sizes = extents(kernel, types)
    tile = clamp(default_tile(kernel, types, machine), sizes)
    unroll = default_unroll(kernel, types, tile, machine)
    return Job(kernel, types, machine, tile, unroll, layouts or {})


def build_kernel(
    kernel: Kernel,
    types: Mapping[str, Type],
    machine: Core,
    layouts: Mapping[str, Layout] | None = None,
) -> Scheduled:
    """The kernel as scheduled code, with what its weights must be packed to.

    Args:
        kernel: a kernel of ``partition`` of a concrete graph.
        types: types of all values of that graph.
        machine: decides the default tile.
        layouts: of values that do not lie as between two kernels.
    """
    import gos_fx.kernels.schedules  # noqa: F401  (registers the rules)

    if kernel.nodes[-1].type.role != "map":
        # It is evaluated at compile time, where there are no ARM instructions.
        machine = replace(machine, in_order=False)
    return rule_for(kernel, types)(plan(kernel, types, machine, layouts))
