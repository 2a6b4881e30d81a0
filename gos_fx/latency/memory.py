"""What the compiled code of a network will take in memory, foreseen without compiling.

For the search, which cannot compile every candidate. It takes the same kernels and
plans as the code generator; the package of a compiled network states the exact number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import fx, nn

from gos_fx.ir.decompose import decompose
from gos_fx.ir.fusion import ALIAS, SCHEDULE, VIEW, Kernel, partition
from gos_fx.ir.network import Network
from gos_fx.kernels.movement import settle
from gos_fx.kernels.scan import hoist
from gos_fx.latency.between import Imported, imported
from gos_fx.latency.kernel_memory import (
    bytes_of,
    packed_bytes,
    packed_operands,
    scratch_bytes,
)
from gos_fx.latency.planning import planned, scattered_values
from gos_fx.latency.storages import Step, peaks
from gos_fx.passes.memory import VIEWS, map_bytes
from gos_fx.passes.operators import Operator
from gos_fx.targets.target import Machine, Target

_VIEW_MODULES = (nn.Flatten, nn.Identity, nn.Dropout)


@dataclass(frozen=True)
class Memory:
    """Bytes of a network.

    Attributes:
        weights: constants as packed.
        activations: most of inputs and storages at one time.
        scratch: of the kernel that has most.
        peak: most of all together at one time.
    """

    weights: int
    activations: int
    scratch: int
    peak: int


def foreseen_memory(
    network: fx.GraphModule,
    operators: Sequence[Operator],
    target: Target,
    threads: int | None = None,
) -> Memory:
    """Of a traced network with shapes, and these operators in it, on so many threads.

    Of torch functions that no rule knows, the parameters and the result are counted.
    """
    machine = replace(target.machine, cores=threads or target.threads)
    plan = _Plan(imported(network, operators), machine)
    (output,) = (node for node in network.graph.nodes if node.op == "output")
    plan.run()
    given = {plan.source(node) for node in output.all_input_nodes}
    found = peaks(plan.steps, given)
    inputs = sum(map_bytes(n) for n in network.graph.nodes if n.op == "placeholder")
    weights = sum(plan.weights.values())
    return Memory(
        weights,
        inputs + found.storages,
        max((step.scratch for step in plan.steps), default=0),
        weights + inputs + found.together,
    )


class _Plan:
    """Calls in the order in which the compiler has them, and their constants."""

    def __init__(self, walk: Imported, machine: Machine) -> None:
        self._walk, self._machine = walk, machine
        self._network, layouts = settle(decompose(hoist(walk.network)), border=True)
        self._types = self._network.types
        self._scattered = scattered_values(layouts, self._types)
        self._roots = _roots(self._network)
        self._names = {
            node: self._roots.get(name, name) for node, name in walk.values.items()
        }
        self._ready: set[str] = set()
        self._waiting: list[fx.Node] = []
        self.steps: list[Step] = []
        self.weights: dict[tuple[str, ...], int] = {}

    def source(self, node: fx.Node) -> str:
        """Whose memory holds what a node gives."""
        if node in self._walk.unknown and _is_view(node) and node.all_input_nodes:
            return self.source(node.all_input_nodes[0])
        return self._names.get(node, node.name)

    def run(self) -> None:
        """All calls: a kernel as soon as torch's calls that it needs are done."""
        self._waiting = list(self._walk.unknown)
        given = {self._names[n]: n for n in self._walk.unknown if n in self._names}
        needs = self._needs(given)
        for kernel in partition(self._network):
            if kernel.nodes[-1].type.role != "map" or kernel.anchor.opcode == ALIAS:
                continue
            while needs[kernel.nodes[-1].name] & set(self._waiting):
                self._torch(self._waiting.pop(0))
            self._kernel(kernel)
        for node in self._waiting:
            self._torch(node)

    def _needs(self, given: Mapping[str, fx.Node]) -> dict[str, set[fx.Node]]:
        """Calls of torch that each value depends on without another one between."""
        needs: dict[str, set[fx.Node]] = {name: {node} for name, node in given.items()}
        for node in self._network.nodes:
            needs[node.name] = set().union(
                *(needs.get(x, set()) for x in node.operands)
            )
        return needs

    def _root(self, name: str) -> str:
        return self._roots.get(name, name)

    def _torch(self, node: fx.Node) -> None:
        if node.op == "call_module":
            for name, tensor in _module(node).named_parameters():
                size = tensor.numel() * tensor.element_size()
                self.weights[str(node.target), name] = size
        if _is_view(node):
            return
        reads = tuple(self.source(source) for source in node.all_input_nodes)
        self.steps.append(
            Step(self._names.get(node, node.name), map_bytes(node), reads)
        )

    def _kernel(self, kernel: Kernel) -> None:
        types = self._types
        plan = planned(kernel, types, self._machine, self._scattered)
        packed = packed_operands(kernel, plan)
        maps = [x for x in kernel.inputs if types[x].role == "map"]
        size = packed_bytes(kernel, types, plan)
        reads = [self._root(x) for x in maps]
        if size and not any(types[x].role == "map" for x in packed):
            self.weights[(*map(self._root, packed), str(size))] = size
        elif size and kernel.anchor.opcode != "matmul":  # packed when it runs
            name = f"{kernel.output}_packed"
            self.steps.append(Step(name, size, tuple(reads)))
            reads.append(name)
        for name in {*kernel.inputs} - {*maps, *packed}:
            self.weights[(self._root(name),)] = bytes_of(types[name])
        result = kernel.nodes[-1]
        scratch = scratch_bytes(kernel, types, plan, self._machine)
        self.steps.append(
            Step(self._root(result.name), bytes_of(result.type), tuple(reads), scratch)
        )


def _roots(network: Network) -> dict[str, str]:
    """What holds the numbers of values that are seen in the memory of others."""
    roots: dict[str, str] = {}
    for node in network.nodes:
        if node.opcode in (*SCHEDULE, VIEW, ALIAS):
            source = node.operands[0]
            roots[node.name] = roots.get(source, source)
    return roots


def _module(node: fx.Node) -> nn.Module:
    owner = node.graph.owning_module
    assert owner is not None
    return owner.get_submodule(str(node.target))


def _is_view(node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(_module(node), _VIEW_MODULES)
    kind = node.target if isinstance(node.target, str) else node.target.__name__
    return kind in VIEWS
