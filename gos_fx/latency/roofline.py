"""Cycles and lines of a kernel on a machine, and the seconds that follow.

    seconds = (issue_1 * serial + issue_n * parallel) / clock + line_s * lines

Cycles and lines are what the emulator would count, and the constants are those by which
the emulator's counts become seconds (``gos_fx.targets.target.Fit``): both sources stay
of one opinion when a board is calibrated anew. Issue and memory add up, because
in-order cores wait for memory (for the Cortex-A53 the sum fits published latencies
better than the maximum).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.tiles import concrete
from gos_fx.latency import issue, lines, stream
from gos_fx.latency.constants import FITTED, Constants, constants_of
from gos_fx.latency.lines import Stage, Sweep
from gos_fx.latency.nest import FLOAT_BYTES, Nest
from gos_fx.latency.stream import Loop
from gos_fx.targets.target import Fit, Machine, Target

# Of targets without an emulation, whose constants nobody has fitted: the issue model's
# cycles and the rate of memory as they are, and half to one and a half times the result
# is what such models reach unfitted.
UNFITTED_ERROR = 0.5


@dataclass(frozen=True)
class Cost:
    """What one execution of a kernel takes.

    Attributes:
        serial: cycles of one core.
        loops: that are divided among threads, one after the other.
        lines: from and to DRAM.
    """

    serial: float
    loops: tuple[Loop, ...] = ()
    lines: float = 0.0

    def parallel(self, threads: int) -> float:
        """Cycles of the busiest of so many threads in the loops."""
        return sum(
            loop.cycles * ceil(loop.parts / threads) / loop.parts for loop in self.loops
        )

    def seconds(self, target: Target, threads: int) -> float:
        """On ``threads`` threads, at most one for each core."""
        threads = max(1, min(threads, target.machine.cores))
        one = fit_of(target, 1)
        busy = fit_of(target, threads) if self.loops else one
        cycles = one.issue * self.serial + busy.issue * self.parallel(threads)
        return cycles / target.machine.clock_hz + busy.line_s * self.lines


def fit_of(target: Target, threads: int) -> Fit:
    """The target's constants; of one without emulation, its data as they stand."""
    if target.emulation is not None:
        return target.emulation.fit(threads)
    machine = target.machine
    line_s = machine.line_bytes / machine.dram_bytes_per_s(threads)
    return Fit(threads, 1.0, line_s, UNFITTED_ERROR, UNFITTED_ERROR / 5, "unfitted")


def cost_of_loops(loops: list[Loop], lines: float, c: Constants = FITTED) -> Cost:
    """Loops that are not divided go to the serial part, with the call."""
    serial = sum(loop.cycles for loop in loops if loop.parts <= 1) + c.call
    divided = (Loop(c.scale * x.cycles, x.parts) for x in loops if x.parts > 1)
    return Cost(c.scale * serial, tuple(divided), lines)


def cost_of_nest(
    nest: Nest,
    machine: Machine,
    epilogue: float,
    threads: int,
    c: Constants = FITTED,
) -> Cost:
    """Cost of a nest whose epilogue takes these cycles for each vector of results."""
    parts = nest.parts(threads)
    loops = []
    before = 0.0
    for copy in nest.copies:
        fill, move = issue.cycles_of_copy(copy, machine, c)
        if copy.local:
            before += fill + move
        else:
            is_divided = parts > 1
            loops.append(Loop(fill))
            loops.append(Loop(move, copy.planes if is_divided else 1))
    tiles = issue.cycles_of_tiles(nest, machine, epilogue, c, parts > 1)
    products = prod(nest.outputs.values()) * nest.steps
    tiles = max(tiles, products / machine.lanes / machine.fma_per_cycle / c.scale)
    loops.append(Loop(before + tiles, parts))
    busy = threads if parts > 1 else 1
    return cost_of_loops(loops, nest_lines(nest, machine, c, busy), c)


def nest_lines(nest: Nest, machine: Machine, c: Constants, threads: int = 1) -> float:
    """Lines from and to DRAM; the maps were written just before, the weights not."""
    whole = nest.extents(nest.outputs)
    size = {s.name: lines.stream_lines(s, whole, machine) for s in nest.streams}
    repeats = lines.repeated(nest, machine, c, threads)
    maps = {s.name for s in (*nest.reads, *nest.late) if s.role == "map"}
    stages: list[Stage] = [[Sweep(name, size[name], True) for name in sorted(maps)]]
    read = dict.fromkeys(s.name for s in (*nest.reads, *nest.late))
    for i, copy in enumerate(nest.copies):
        if copy.local:
            continue
        made = copy.bytes / machine.line_bytes
        name = f"copy {i} of {copy.source}"
        if copy.filled:
            stages.append([Sweep(name, made, True, fetched=not copy.zeros)])
        source = Sweep(copy.source, size[copy.source])
        stages.append([source, Sweep(name, made, True)])
        read[copy.source] = None
        size[name], repeats[name] = made, repeats.get(copy.source, 1.0)
        read = dict.fromkeys(name if x == copy.source else x for x in read)
    main = [Sweep(x, size[x], repeats=_sweeps(nest, x)) for x in read]
    main.append(Sweep(nest.write.name, size[nest.write.name], True))
    stages.append(main)
    again = sum((repeats[x] - 1.0) * size[x] for x in read)
    again += 2.0 * (repeats[nest.write.name] - 1.0) * size[nest.write.name]
    return lines.lines_of(stages, machine, c) + again + c.kernel_lines


def _sweeps(nest: Nest, name: str) -> float:
    """How often a stream is gone through: loops outside of those that move it."""
    times = 1
    streams = [s for s in nest.reads if s.name == name or name.endswith(s.name)]
    for loop, count in nest.tiles.items():
        if count > 1 and any(
            loop == x for s in streams for axis in s.axes for x, _, _ in axis.loops
        ):
            break
        times *= count
    return float(times)


def cost_of_stream(
    kernel: Kernel,
    types: Mapping[str, Type],
    machine: Machine,
    c: Constants = FITTED,
) -> Cost:
    """Cost of a kernel without a register tile."""
    loops = stream.loops_of(kernel, types, machine, c)
    per = machine.line_bytes / FLOAT_BYTES
    sizes = {x: prod(concrete(types[x])) / per for x in kernel.inputs}
    out = prod(concrete(kernel.nodes[-1].type)) / per
    maps = [Sweep(x, sizes[x], True) for x in sizes if types[x].role == "map"]
    stages: list[Stage] = [maps]
    inputs = [Sweep(x, size) for x, size in sizes.items()]
    opcode = kernel.anchor.opcode
    if opcode == "cross_correlation":
        made = prod(concrete(kernel.anchor.type)) / per
        stages += [[*inputs, Sweep("maps", made, True)]]
        inputs = [Sweep("maps", made)]
    elif opcode == "softmax":
        stages += [inputs, [*inputs, Sweep("exp", out, True)], [Sweep("exp", out)]]
        inputs = [Sweep("exp", out)]
    stages.append([*inputs, Sweep(kernel.output, out, True)])
    found = lines.lines_of(stages, machine, c)
    return cost_of_loops(loops, found + c.kernel_lines, c)


def cost_of_kernel(
    kernel: Kernel,
    nest: Nest | None,
    types: Mapping[str, Type],
    target: Target,
    threads: int,
    constants: Constants | None = None,
) -> Cost:
    """Cost of a kernel of a concrete graph, ``nest`` as of ``nest_of``.

    Args:
        constants: in place of those that were fitted to the target's issue model.
    """
    machine, c = target.machine, constants or constants_of(target)
    if nest is not None:
        first = 2 if kernel.is_summed else 1
        epilogue = sum(stream.arithmetic(node, c) for node in kernel.nodes[first:])
        return cost_of_nest(nest, machine, epilogue, threads, c)
    if kernel.anchor.opcode == "reshape":
        return Cost(0.0)  # another shape of the same bytes
    return cost_of_stream(kernel, types, machine, c)
