"""Winograd's convolutions: transforms, and one matrix product for each point."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.microkernels import bound
from gos_fx.kernels.tiles import concrete
from gos_fx.kernels.winograd_tiles import WinogradPlan
from gos_fx.latency.constants import Constants
from gos_fx.latency.dense import PARALLEL_WORK, vector_words
from gos_fx.latency.lines import gone
from gos_fx.latency.planning import STEPS
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
    lanes, points = machine.lanes, plan.products
    tiles = plan.chunks * plan.chunk
    blocks = ceil(plan.outputs / plan.block)
    inputs, outputs = ceil(plan.inputs / lanes), ceil(plan.outputs / lanes)
    before = tiles * blocks * (c.winograd_tile + c.winograd_input * points * inputs)
    results = plan.batch * plan.rows * plan.columns * outputs
    after = tiles * (c.winograd_tile + c.winograd_output * points * outputs)
    after += results * (c.store + epilogue)
    count = plan.chunks * points * ceil(plan.chunk / plan.pixels)
    count *= ceil(plan.outputs / plan.co)
    sums = count * _block(plan, machine, c)
    parts = plan.chunks if plan.by_chunks else ceil(plan.block / plan.group)
    work = plan.tiles * points * plan.inputs * plan.outputs
    parts = parts if work >= PARALLEL_WORK else 1
    loops = (Loop(before + sums + after, parts),)
    return Work(loops, *_lines(kernel, types, plan, machine, c))


def _block(plan: WinogradPlan, machine: Machine, c: Constants) -> float:
    """A register block of the products, with its stores."""
    vectors = plan.co // machine.lanes
    products = vectors * plan.pixels
    around = c.block + c.store * products
    if machine.in_order:
        turn = STEPS * products / bound(vectors, plan.pixels)
        return c.call_block + ceil(plan.inputs / STEPS) * turn + around
    loads = vectors * vector_words(machine) + c.number * plan.pixels
    issue = products / machine.fma_per_cycle
    step = max(issue, loads, c.chain * machine.fma_latency_cycles)
    return plan.inputs * (step + c.overlap * min(issue, loads)) + around


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
    lines[w] = plan.products * plan.inputs * plan.outputs / per
    out = plan.batch * plan.rows * plan.columns * plan.outputs / per
    maps = [Sweep(name, lines[name], True) for name in (x, *late)]
    main = [Sweep(name, size) for name, size in lines.items()]
    stages: tuple[Stage, ...] = (maps, [*main, Sweep(kernel.output, out, True)])
    blocks = ceil(plan.outputs / plan.block)
    busy = min(machine.cores, plan.chunks) if plan.by_chunks else 1
    scratch = plan.products * plan.chunk * (plan.inputs + plan.group) / per
    moved = (lines[x] + out / blocks) / plan.chunks
    part = gone(lines[w] / blocks + busy * (scratch + moved), machine, c)
    again = max(0.0, plan.chunks / busy - 1.0) * lines[w] * part
    part = gone(lines[x] + lines[w] / blocks, machine, c)
    again += (blocks - 1) * lines[x] * part
    spilled = gone(busy * 2 * scratch, machine, c)
    again += 2 * plan.chunks * scratch * spilled
    return stages, again
