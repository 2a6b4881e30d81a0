"""Energy as a stated model, for comparison; nothing here is measured.

    joules = static_w * seconds + flop_j * flops + dram_byte_j * bytes

The constants are the target's, each with its source. Bytes are those of weights, and of
feature maps that the last cache cannot hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from torch import fx

from gos_fx.errors import BadOption
from gos_fx.ir.fusion import NO_CODE, SCHEDULE, Kernel, partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.types import Type
from gos_fx.latency.flops import flops_of
from gos_fx.latency.model import Estimate
from gos_fx.passes.memory import VIEWS, map_bytes
from gos_fx.passes.operators import Operator
from gos_fx.targets.target import Target

SOURCE = "modelled"
# Relative half width of the interval of the true energy. An assumption: the constants
# are of whole boards under other loads, and voltage follows load and temperature.
RELATIVE_ERROR = 0.5


@dataclass(frozen=True)
class EnergyEstimate:
    """Joules of one inference on a target; ``error`` is a half width in joules."""

    joules: float
    error: float
    source: str
    target: str

    def __str__(self) -> str:
        mj, error = 1e3 * self.joules, 1e3 * self.error
        return f"{mj:.4g} mJ +- {error:.2g} ({self.source}, {self.target})"


@dataclass(frozen=True)
class Work:
    """Floating-point operations, and bytes from and to DRAM."""

    flops: float
    dram_bytes: float

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.dram_bytes + other.dram_bytes)


NO_WORK = Work(0.0, 0.0)


class EnergyModel:
    """The energy of a target.

    Raises:
        BadOption: the target has no constants of energy.
    """

    def __init__(self, target: Target) -> None:
        if target.energy is None:
            raise BadOption(
                f"nothing is known of the energy that {target.name} takes",
                where="energy",
                do="Use a target that has constants, or give this one a "
                "gos_fx.targets.target.Energy.",
            )
        self.target, self.constants = target, target.energy

    def joules(self, work: Work, latency: Estimate) -> EnergyEstimate:
        """Of work that takes so long."""
        constants = self.constants
        joules = (
            constants.static_w * latency.seconds
            + constants.flop_j * work.flops
            + constants.dram_byte_j * work.dram_bytes
        )
        error = RELATIVE_ERROR * joules
        return EnergyEstimate(joules, error, SOURCE, self.target.name)

    def graph(self, graph: Graph) -> Work:
        """Work of a concrete graph."""
        return _graph_work(graph, self.target.machine.cache_bytes())

    def network(self, network: fx.GraphModule, operators: Sequence[Operator]) -> Work:
        """Work of a traced network with shapes."""
        cache = self.target.machine.cache_bytes()
        first = {op.nodes[0]: op for op in operators}
        inner = {name for op in operators for name in op.nodes[1:]}
        work = NO_WORK
        for node in network.graph.nodes:
            operator = first.get(node.name)
            if operator is not None and operator.template is not None:
                work += self.graph(operator.concrete)
            elif node.op.startswith("call_") and node.name not in inner:
                work += _traffic(node, cache)
        return work


def _traffic(node: fx.Node, cache: int) -> Work:
    """One operation for each number written, where nothing else is known."""
    kind = node.target if isinstance(node.target, str) else node.target.__name__
    if kind in VIEWS:
        return NO_WORK
    written = map_bytes(node)
    moved = written + sum(map_bytes(source) for source in node.all_input_nodes)
    return Work(written / 4, moved if moved > cache else 0)


@lru_cache(maxsize=4096)
def _graph_work(graph: Graph, cache: int) -> Work:
    work = NO_WORK
    for kernel in partition(graph):
        if kernel.nodes[-1].type.role == "map" and kernel.anchor.opcode not in NO_CODE:
            work += _kernel_work(kernel, graph, cache)
    return work


def _kernel_work(kernel: Kernel, graph: Graph, cache: int) -> Work:
    types = graph.types
    # A sum over channels is the addition of each multiply-add, and counted there.
    counted = kernel.nodes[:1] + kernel.nodes[2:] if kernel.is_summed else kernel.nodes
    flops = sum(
        flops_of(node, [types[name] for name in node.operands])
        for node in counted
        if node.opcode not in SCHEDULE
    )
    inputs = [types[name] for name in kernel.inputs]
    weights = sum(_bytes(t) for t in inputs if t.role != "map")
    maps = sum(_bytes(t) for t in inputs if t.role == "map")
    maps += _bytes(kernel.nodes[-1].type)
    return Work(flops, weights + (maps if maps > cache else 0))


def _bytes(type_: Type) -> int:
    return 4 * cast(int, type_.elements)
