"""The analytical source: a roofline of each kernel from the target's data.

It needs neither board nor compiler and takes well under a millisecond for an operator.
It sees the tile and the unrolling that the code generator will use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import fx

from gos_fx.errors import BadOption
from gos_fx.ir.fusion import Kernel, partition
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.types import Type
from gos_fx.kernels import tiles
from gos_fx.latency.model import Estimate, total
from gos_fx.latency.nest import nest_of
from gos_fx.latency.roofline import (
    LOOP_CYCLES,
    Cost,
    cost_of_nest,
    cost_of_stream,
    scalar_load_cycles,
)
from gos_fx.latency.source import NetworkLatency
from gos_fx.passes.memory import map_bytes
from gos_fx.passes.memory_plan import VIEWS
from gos_fx.passes.operators import find_operators
from gos_fx.targets.target import Machine, Target

SOURCE = "analytical"
# Relative error of every number of this source. An assumption, not a measurement: no
# operator has been compared with a board yet, and the constants of the roofline are
# uncalibrated. Half to one and a half times is what such models reach unfitted.
RELATIVE_ERROR = 0.5
# The part of it that does not cancel when two operators are compared on one target.
# An assumption as well: a wrong clock, rate or overhead moves both alike.
RELATIVE_NOISE = 0.1
# Cycles that a kernel costs before its first and after its last instruction: the call
# out of the virtual machine, and with threads their start and end. Assumptions.
CALL_CYCLES = 3000.0
THREADS_CYCLES = 4000.0
# Elements from which the plain schedule is parallel, and its widest vector
# (kernels/schedules/stage.py).
PARALLEL_WORK = 1 << 14
MAX_VECTOR = 64
# Cycles of one vector of instructions that are not one FMA. Division and square root
# as LLVM's scheduling models of in-order cores have them, for four lanes; exponentials
# as polynomials of about 16 instructions. Others take one cycle for each operand pair.
_MOVES = ("concat", "transpose", "resize", "reshape")
_VECTOR_CYCLES = {"div": 16.0, "sqrt": 16.0, "exp": 16.0, "sigmoid": 34.0, "tanh": 36.0}


def kernel_latency(
    kernel: Kernel, graph: Graph, target: Target, threads: int | None = None
) -> Estimate:
    """Latency of one kernel of a concrete graph, at the sizes of the graph.

    A kernel that depends on weights alone is run at compile time and takes nothing.

    Raises:
        BadOption: the graph is a template, or ``threads`` is below one.
    """
    if not graph.is_concrete:
        raise BadOption(
            f"{graph.name} is a template",
            where=f"symbols {', '.join(sorted(graph.symbols))}",
            do="Instantiate it at a site first.",
        )
    threads = _threads(target, threads)
    if kernel.nodes[-1].type.role != "map":
        return Estimate(0.0, 0.0, SOURCE, target.name, 0.0)
    machine = target.machine
    cost = _cost(kernel, graph, machine)
    return _estimate(cost, target, threads)


def graph_latency(graph: Graph, target: Target, threads: int | None = None) -> Estimate:
    """Latency of a concrete graph: its kernels one after the other.

    Raises:
        BadOption: the graph is a template, or ``threads`` is below one.
    """
    kernels = partition(graph)
    each = (kernel_latency(kernel, graph, target, threads) for kernel in kernels)
    return total(each, SOURCE, target.name)


def traffic_latency(
    bytes: float, flops: float, target: Target, threads: int | None = None
) -> Estimate:
    """Latency of an operator of which only its traffic and arithmetic are known.

    For operators without lowering: ``bytes`` are read or written once, ``flops`` run at
    a quarter of the peak rate, which is assumed. The source says "analytical-traffic".

    Raises:
        BadOption: ``threads`` is below one.
    """
    threads = _threads(target, threads)
    machine = target.machine
    peak_per_cycle = 2 * machine.lanes * machine.fma_per_cycle
    cycles = max(4 * flops / peak_per_cycle, bytes / machine.load_bytes_per_cycle)
    dram = 0.0 if bytes <= machine.cache_bytes() else bytes
    cost = Cost(cycles, dram, parts=machine.cores)
    return _estimate(cost, target, threads, source=f"{SOURCE}-traffic")


def _threads(target: Target, threads: int | None) -> int:
    if threads is None:
        return target.threads
    if threads < 1:
        raise BadOption(
            f"{threads} threads", where="argument threads", do="Give 1 or more."
        )
    return min(threads, target.machine.cores)


def _estimate(
    cost: Cost, target: Target, threads: int, source: str = SOURCE
) -> Estimate:
    overhead = CALL_CYCLES + (THREADS_CYCLES if threads > 1 and cost.parts > 1 else 0.0)
    seconds = cost.seconds(target.machine, threads) + overhead / target.machine.clock_hz
    return Estimate(
        seconds,
        RELATIVE_ERROR * seconds,
        source,
        target.name,
        RELATIVE_NOISE * seconds,
    )


def _cost(kernel: Kernel, graph: Graph, machine: Machine) -> Cost:
    nest = nest_of(kernel, graph, machine)
    if nest is not None:
        first = 2 if kernel.is_summed else 1
        finish = sum(_vector_cycles(node) for node in kernel.nodes[first:])
        return cost_of_nest(nest, machine, finish)
    if kernel.anchor.opcode == "reshape":
        return Cost(0.0, 0.0)  # another shape of the same bytes
    return _streaming(kernel, graph, machine)


def _streaming(kernel: Kernel, graph: Graph, machine: Machine) -> Cost:
    """Each operand read once, the result written once: all that has no nest."""
    types = graph.types
    shape = tiles.concrete(kernel.nodes[-1].type)
    elements = {kernel.output: prod(shape)}
    for name in kernel.inputs:
        elements[name] = prod(tiles.concrete(types[name]))
    # Work is counted on the larger side of a reduction.
    read = max(prod(tiles.concrete(types[name])) for name in kernel.inputs)
    points = max(elements[kernel.output], read)
    schedule = _stream_schedule(kernel, types, shape, machine)
    arithmetic = points / machine.lanes * schedule.waste
    arithmetic *= sum(_vector_cycles(node) for node in kernel.nodes)
    if kernel.anchor.opcode == "transpose":  # one number at a time
        arithmetic += points * scalar_load_cycles(machine)
    if kernel.anchor.opcode == "cross_correlation":  # products stored, none summed
        taps = prod(tiles.concrete(types[kernel.anchor.operands[1]])[2:])
        arithmetic += points * taps / machine.lanes * schedule.waste
    arithmetic += LOOP_CYCLES * points / schedule.points_per_iteration
    return cost_of_stream(elements, machine, arithmetic, schedule.parts)


@dataclass(frozen=True)
class _StreamSchedule:
    """``waste``: lanes issued for each that is used; ``parts``: for threads."""

    waste: float
    points_per_iteration: int
    parts: int


def _stream_schedule(
    kernel: Kernel, types: Mapping[str, Type], shape: tuple[int, ...], machine: Machine
) -> _StreamSchedule:
    """What the plain schedule makes of a kernel: one loop over all elements without a
    tile, and otherwise the tile's loops in one iteration of the others."""
    lanes, total = machine.lanes, prod(shape)
    names = tiles.tiled_loops(kernel, types)
    if not (kernel.tile or kernel.unroll):
        width = max(w for w in range(1, min(total, 4 * lanes) + 1) if total % w == 0)
        parts = total // width if total >= PARALLEL_WORK else 1
        return _StreamSchedule(-(-width // lanes) * lanes / width, width, parts)
    extents = dict(zip(names, shape, strict=True))
    tile = dict.fromkeys(names, 1) | {
        k: v for k, v in tiles.clamp(dict(kernel.tile), extents).items() if k in names
    }
    size, extent = tile[names[-1]], shape[-1]
    issued = lanes * -(-size // lanes) if size <= MAX_VECTOR else lanes * size
    trips = {loop: -(-extents[loop] // tile[loop]) for loop in names}
    copies = prod(
        min(factor, trips[loop]) for loop, factor in kernel.unroll if loop in trips
    )
    waste = trips[names[-1]] * issued / extent
    return _StreamSchedule(waste, prod(tile.values()) * copies, prod(trips.values()))


def _vector_cycles(node: Node) -> float:
    """Cycles for one vector of the larger of an instruction's operand and result."""
    if node.opcode == "softmax":  # maximum, difference, exponential, sum, division
        return 3.0 + _VECTOR_CYCLES["exp"] + _VECTOR_CYCLES["div"]
    if node.opcode == "relu":
        return 1.0 if node.attr("slope") == 0.0 else 2.0
    if node.opcode in _VECTOR_CYCLES:
        return _VECTOR_CYCLES[node.opcode]
    if node.opcode in _MOVES:
        return 0.0
    return float(max(1, len(node.operands) - 1))


class AnalyticalSource:
    """This model as a source. It runs nothing and needs no inputs."""

    name = SOURCE

    def __init__(self, target: Target, threads: int | None = None) -> None:
        self.target, self.threads = target, _threads(target, threads)

    def operator(self, graph: Graph) -> Estimate:
        """Latency of a concrete graph.

        Raises:
            BadOption: it is a template.
        """
        return graph_latency(graph, self.target, self.threads)

    def network(
        self, network: fx.GraphModule, inputs: tuple[Any, ...] = ()
    ) -> NetworkLatency:
        """The sum over a traced network, at the shapes that the trace recorded.

        What has no instruction graph counts by the bytes that it reads and writes.
        """
        operators, others = {}, {}
        by_first = {op.nodes[0]: op for op in find_operators(network)}
        for node in network.graph.nodes:
            if node.name in by_first:
                operator = by_first[node.name]
                if operator.template is None:
                    others[operator.name] = self._traffic(node)
                else:
                    operators[operator.name] = self.operator(operator.concrete)
            elif node.op in ("call_function", "call_method"):
                others[node.name] = self._glue(node)
        each = (*operators.values(), *others.values())
        return NetworkLatency(total(each, SOURCE, self.target.name), operators, others)

    def _glue(self, node: fx.Node) -> Estimate:
        kind = node.target if isinstance(node.target, str) else node.target.__name__
        if kind in VIEWS:
            return total((), f"{SOURCE}-traffic", self.target.name)
        return self._traffic(node)

    def _traffic(self, node: fx.Node) -> Estimate:
        read = sum(map_bytes(source) for source in node.all_input_nodes)
        written = map_bytes(node)
        return traffic_latency(read + written, written / 4, self.target, self.threads)
