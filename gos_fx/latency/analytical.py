"""The analytical source: cycles and cache lines of each kernel, from its schedule.

It needs neither board nor compiler and takes well under a millisecond for an operator.
It sees the tile and the unrolling that the code generator will use, and foresees what
the emulator would count; the constants were fitted to that (``constants``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot, prod
from typing import Any

from torch import fx

from gos_fx.errors import BadOption
from gos_fx.ir.decompose import decompose
from gos_fx.ir.fusion import NO_CODE, Kernel, partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.network import Network
from gos_fx.kernels.layout import Layout
from gos_fx.kernels.movement import MOVEMENT, settle
from gos_fx.kernels.scan import hoist
from gos_fx.latency.between import network_of, shape_of
from gos_fx.latency.constants import Constants, constants_of
from gos_fx.latency.model import Estimate, total
from gos_fx.latency.planning import scattered_values
from gos_fx.latency.roofline import (
    UNFITTED_ERROR,
    Cost,
    cost_of_kernel,
    cost_of_loops,
    fit_of,
)
from gos_fx.latency.source import NetworkLatency
from gos_fx.latency.work import FLOAT_BYTES, Loop
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.targets.target import Target

SOURCE = "analytical"
RUNTIME = "runtime"


def kernel_latency(
    kernel: Kernel, graph: Graph, target: Target, threads: int | None = None
) -> Estimate:
    """Latency of one kernel of a concrete graph, at the sizes of the graph.

    A kernel that depends on weights alone is run at compile time and takes nothing.

    Raises:
        BadOption: the graph is a template, or ``threads`` is below one.
    """
    _check_concrete(graph)
    threads = _threads(target, threads)
    if kernel.nodes[-1].type.role != "map":
        return Estimate(0.0, 0.0, SOURCE, target.name, 0.0)
    return _estimate(
        cost_of_kernel(kernel, graph.types, target, threads), target, threads
    )


def graph_latency(graph: Graph, target: Target, threads: int | None = None) -> Estimate:
    """Latency of a concrete graph: its kernels one after the other.

    Raises:
        BadOption: the graph is a template, or ``threads`` is below one.
    """
    threads = _threads(target, threads)
    _check_concrete(graph)
    costs = costs_of(Network.of(graph), target, threads, border=False)
    each = (_estimate(cost, target, threads) for _, cost in costs)
    return total(each, SOURCE, target.name)


def costs_of(
    network: Network,
    target: Target,
    threads: int,
    constants: Constants | None = None,
    *,
    border: bool,
) -> list[tuple[Kernel, Cost]]:
    """The kernels that an inference runs, movements settled as the compiler does it.

    Args:
        constants: in place of the target's own.
        border: what goes in and comes out has its axes in logical order, else as
            between two kernels.
    """
    network = decompose(hoist(network))
    layouts: Mapping[str, Layout] = {}
    if border or any(node.opcode in MOVEMENT for node in network.nodes):
        network, layouts = settle(network, border=border)
    types = network.types
    scattered = scattered_values(layouts, types)
    return [
        (
            kernel,
            cost_of_kernel(kernel, types, target, threads, constants, scattered),
        )
        for kernel in partition(network)
        if kernel.nodes[-1].type.role == "map"
    ]


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
    lines = 0.0 if bytes <= machine.cache_bytes() else bytes / machine.line_bytes
    cost = cost_of_loops([Loop(cycles, machine.cores)], lines, threads)
    return _estimate(cost, target, threads, source=f"{SOURCE}-traffic")


def _check_concrete(graph: Graph) -> None:
    if not graph.is_concrete:
        raise BadOption(
            f"{graph.name} is a template",
            where=f"symbols {', '.join(sorted(graph.symbols))}",
            do="Instantiate it at a site first.",
        )


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
    seconds = cost.seconds(target, threads)
    error, noise = errors_of(target, threads)
    if source != SOURCE:
        error = noise = UNFITTED_ERROR
    return Estimate(seconds, error * seconds, source, target.name, noise * seconds)


def errors_of(target: Target, threads: int) -> tuple[float, float]:
    """Relative error and noise of an operator's estimate.

    The error is that of the emulator on the board and that of this model against the
    emulator, which are independent; the noise is the spread on kernels held out.
    """
    fit = fit_of(target, threads)
    if target.emulation is None:
        return fit.error, fit.noise
    constants = constants_of(target)
    return hypot(fit.error, constants.error), constants.noise


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
        self,
        network: fx.GraphModule,
        inputs: tuple[Any, ...] = (),
        operators: Sequence[Operator] | None = None,
    ) -> NetworkLatency:
        """The sum over a traced network, at the shapes that the trace recorded, with
        these ``operators`` in place of its own if given.

        As in compiled code, what runs between operators is part of the kernel that it
        is fused into; of torch operators that nothing here knows, the bytes are counted
        that they read and write. ``runtime`` is what the virtual machine does between
        kernels.
        """
        if operators is None:
            operators = find_operators(network)
        instructions, unknown = network_of(network, operators)
        costs: dict[str, list[Cost]] = {
            op.name: [] for op in operators if op.template is not None
        }
        ours = frozenset(costs)
        calls = len(unknown)
        owners_of = decompose(hoist(instructions)).owners
        made = costs_of(instructions, self.target, self.threads, border=True)
        for kernel, cost in made:
            owner = owners_of.get(kernel.anchor.name, kernel.anchor.name)
            costs.setdefault(owner, []).append(cost)
            calls += kernel.anchor.opcode not in NO_CODE
        each = {name: self._sum(found) for name, found in costs.items()}
        found = {name: each[name] for name in each if name in ours}
        others = {name: each[name] for name in each if name not in ours}
        owners = {node: op.name for op in operators for node in op.nodes}
        for node in unknown:
            name = owners.get(node.name, node.name)
            table = found if name in ours else others
            known, traffic = table.get(name), self._traffic(node)
            table[name] = known + traffic if known and known.seconds else traffic
        others[RUNTIME] = self._estimate(_runtime(calls, self.target))
        whole = total((*found.values(), *others.values()), SOURCE, self.target.name)
        counters = {name: self._counted(costs[name]) for name in costs}
        return NetworkLatency(whole, found, others, counters)

    def _sum(self, costs: Sequence[Cost]) -> Estimate:
        return total(map(self._estimate, costs), SOURCE, self.target.name)

    def _counted(self, costs: Sequence[Cost]) -> dict[str, float]:
        """What the emulator would count."""
        return {
            "cycles": sum(x.serial + x.parallel(self.threads) for x in costs),
            "lines": sum(cost.lines for cost in costs),
        }

    def _estimate(self, cost: Cost) -> Estimate:
        return _estimate(cost, self.target, self.threads)

    def _traffic(self, node: fx.Node) -> Estimate:
        read = sum(prod(shape_of(source)) for source in node.all_input_nodes)
        written = prod(shape_of(node))
        bytes = FLOAT_BYTES * (read + written)
        return traffic_latency(bytes, written, self.target, self.threads)


def _runtime(calls: int, target: Target) -> Cost:
    """What the virtual machine does around so many functions."""
    c = constants_of(target)
    return Cost(c.scale * c.runtime_cycles * calls, (), c.runtime_lines * calls)
