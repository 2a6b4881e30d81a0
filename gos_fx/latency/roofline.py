"""Cycles and lines of a kernel on a machine, and the seconds that follow.

    seconds = (issue_1 * serial + issue_n * parallel) / clock + line_s * lines

Cycles and lines are what the emulator would count, and the constants are those by which
the emulator's counts become seconds (``gos_fx.targets.target.Fit``): both sources stay
of one opinion when a board is calibrated anew. Issue and memory add up, because
in-order cores wait for memory (for the Cortex-A53 the sum fits published latencies
better than the maximum).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

from gos_fx.ir.fusion import NO_CODE, Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.window_tiles import WindowPlan
from gos_fx.kernels.winograd_tiles import WinogradPlan
from gos_fx.latency import dense, opaque, stream, window, winograd
from gos_fx.latency.constants import FITTED, Constants, constants_of
from gos_fx.latency.lines import lines_of
from gos_fx.latency.planning import DenseForm, planned
from gos_fx.latency.work import Loop, Work
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


def cost_of_loops(
    loops: Sequence[Loop], lines: float, threads: int, c: Constants = FITTED
) -> Cost:
    """Loops that are not divided go to the serial part, with the call."""
    serial = sum(loop.cycles for loop in loops if loop.parts <= 1) + c.call
    divided = tuple(
        Loop(c.scale * x.cycles, x.parts, x.starts) for x in loops if x.parts > 1
    )
    start = c.start + (c.threads if threads > 1 else 0.0)
    serial += start * sum(loop.starts for loop in divided)
    return Cost(c.scale * serial, divided, lines)


def cost_of_kernel(
    kernel: Kernel,
    types: Mapping[str, Type],
    target: Target,
    threads: int,
    constants: Constants | None = None,
    scattered: frozenset[str] = frozenset(),
) -> Cost:
    """Cost of a kernel of a concrete graph.

    Args:
        constants: in place of those that were fitted to the target's issue model.
        scattered: values whose channels do not lie side by side.
    """
    if kernel.anchor.opcode in NO_CODE:
        return Cost(0.0)
    machine = _with_cores(target.machine, threads)
    c = constants or constants_of(target)
    work = work_of_kernel(kernel, types, machine, c, scattered)
    lines = lines_of(work.stages, machine, c) + work.again + c.kernel_lines
    return cost_of_loops(work.loops, lines, threads, c)


def work_of_kernel(
    kernel: Kernel,
    types: Mapping[str, Type],
    machine: Machine,
    c: Constants,
    scattered: frozenset[str] = frozenset(),
) -> Work:
    """What the code that is generated for a kernel does, by the plan that it has.

    Args:
        machine: with as many cores as the code makes use of.
    """
    plan = planned(kernel, types, machine, scattered)
    if kernel.anchor.opcode == "scan":
        return opaque.scan_work(
            kernel,
            types,
            machine,
            c,
            lambda inner, inside: work_of_kernel(inner, inside, machine, c),
        )
    if plan is None and not stream.is_stream(kernel):
        return opaque.opaque_work(kernel, types, machine)
    if plan is None:
        return stream.stream_work(kernel, types, machine, c)
    epilogue = epilogue_cycles(kernel, types, machine, c)
    if isinstance(plan, DenseForm):
        return dense.dense_work(kernel, types, plan, machine, epilogue, c)
    if isinstance(plan, WinogradPlan):
        return winograd.winograd_work(kernel, types, plan, machine, epilogue, c)
    assert isinstance(plan, WindowPlan)
    ends = {kernel.anchor.operands[0], kernel.output}
    return window.window_work(
        kernel, types, plan, machine, epilogue, c, scattered=bool(ends & scattered)
    )


def epilogue_cycles(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine, c: Constants
) -> float:
    """What follows the sums, for each vector of results: arithmetic and other maps."""
    nodes = kernel.nodes[2 if kernel.is_summed else 1 :]
    late = {n for node in nodes for n in node.operands if n in kernel.inputs}
    whole = sum(types[name].rank > 1 for name in late)
    arithmetic = sum(stream.arithmetic(node, c) for node in nodes)
    return arithmetic + c.late * whole * dense.vector_words(machine)


@lru_cache(maxsize=64)
def _with_cores(machine: Machine, threads: int) -> Machine:
    return replace(machine, cores=max(1, min(threads, machine.cores)))
