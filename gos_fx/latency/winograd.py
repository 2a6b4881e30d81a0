"""Winograd's convolutions: transforms, and one matrix product for each point."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, gcd, prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.microkernels import STEPS, bound
from gos_fx.kernels.tiles import concrete
from gos_fx.kernels.winograd_tiles import WinogradPlan
from gos_fx.latency.constants import Constants
from gos_fx.latency.dense import PARALLEL_WORK, step_cycles
from gos_fx.latency.lines import gone
from gos_fx.latency.work import FLOAT_BYTES, Loop, Stage, Sweep, Work
from gos_fx.targets.target import Machine


def winograd_work(
    kernel: Kernel,
    types: Mapping[str, Type],
    plan: WinogradPlan,
    machine: Machine,
    epilogue: float,
    c: Constants,
) -> Work:
    """Of a convolution of 3x3.

    Args:
        machine: with as many cores as there are threads.
        epilogue: cycles for each vector of results, stores left out.
    """
    form, size = plan.form, plan.form.size
    tiles = plan.chunks * plan.chunk
    passes = ceil(plan.groups / (plan.block // plan.group)) if plan.by_chunks else 1
    before = c.winograd_add * 2 * size * form.input_operations
    before *= passes * tiles * _vectors(plan.inputs, machine)
    after = c.winograd_add * (size + form.outputs) * form.output_operations
    after += form.outputs**2 * (c.store + epilogue)
    after *= tiles * _vectors(plan.outputs, machine)
    count = plan.chunks * plan.points * ceil(plan.chunk / plan.pixels)
    sums = count * ceil(plan.outputs / plan.co) * _block(plan, machine, c)
    if plan.tiles * plan.points * plan.inputs * plan.outputs < PARALLEL_WORK:
        loops: tuple[Loop, ...] = (Loop(before + sums + after),)
    elif plan.by_chunks:
        loops = (Loop(before + sums + after, plan.chunks),)
    elif plan.groups > 1:
        loops = (
            Loop(before, plan.chunk, plan.chunks),
            Loop(sums + after, plan.groups, plan.chunks),
        )
    else:
        loops = (
            Loop(before + after, plan.chunk, 2 * plan.chunks),
            Loop(sums, plan.points, plan.chunks),
        )
    return Work(loops, *_lines(kernel, types, plan, machine, c))


def _vectors(channels: int, machine: Machine) -> float:
    """Vectors that divide so many channels."""
    return channels / gcd(channels, machine.lanes)


def _block(plan: WinogradPlan, machine: Machine, c: Constants) -> float:
    """A register block of the products, with its stores."""
    vectors = plan.co // machine.lanes
    products = vectors * plan.pixels
    around = c.block + c.kept * products
    if machine.in_order:
        turn = STEPS * products / bound(vectors, plan.pixels)
        return c.call_block + ceil(plan.inputs / STEPS) * turn + around
    step = step_cycles(vectors, plan.pixels, machine.lanes, machine, c)
    return plan.inputs * step + around


def _lines(
    kernel: Kernel,
    types: Mapping[str, Type],
    plan: WinogradPlan,
    machine: Machine,
    c: Constants,
) -> tuple[tuple[Stage, ...], float]:
    """Weights come again for each chunk; the transforms' scratch stays in the cache."""
    per = machine.line_bytes / FLOAT_BYTES
    x, w = kernel.anchor.operands[:2]
    late = [n for n in kernel.inputs if n not in (x, w) and types[n].role == "map"]
    lines = {name: prod(concrete(types[name])) / per for name in (x, *late)}
    lines[w] = plan.points * plan.inputs * plan.outputs / per
    out = plan.batch * plan.rows * plan.columns * plan.outputs / per
    maps = [Sweep(name, lines[name], True) for name in (x, *late)]
    main = [Sweep(name, size) for name, size in lines.items()]
    blocks = ceil(plan.outputs / plan.block)
    busy = min(machine.cores, plan.chunks) if plan.by_chunks else 1
    transformed = plan.points * plan.chunk * plan.inputs / per
    products = plan.points * plan.chunk * plan.group / per
    scratch = busy * (transformed + products)
    stages: tuple[Stage, ...] = (
        maps,
        [Sweep("scratch", scratch, True)],
        [*main, Sweep(kernel.output, out, True)],
    )
    moved = busy * (lines[x] + out / blocks) / plan.chunks
    part = gone(lines[w] / blocks + scratch + moved, machine, c)
    again = (plan.chunks / busy - 1.0) * lines[w] * part
    again += (blocks - 1) * lines[x] * gone(lines[x] + lines[w] / blocks, machine, c)
    # What is transformed is read again for each group, and what is summed once.
    part = gone(scratch + busy * lines[w] / plan.groups, machine, c)
    again += part * plan.chunks * (plan.groups * transformed + 2 * products)
    return stages, again
