"""What sources share that run compiled code: compile, measure, tell whose it was."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import fx

from gos_fx.errors import Unsupported
from gos_fx.ir.graph import Graph
from gos_fx.kernels import kernel_work
from gos_fx.kernels.package import Package
from gos_fx.kernels.packaged import package_network, package_operator
from gos_fx.latency.model import Estimate, total
from gos_fx.latency.source import NetworkLatency
from gos_fx.passes.make_opaque import OpaqueOperator, make_opaque
from gos_fx.passes.nested import tensors
from gos_fx.passes.trace import run_once
from gos_fx.targets.target import Target

# Name under which what the runtime does between kernels is listed.
RUNTIME = kernel_work.RUNTIME


@dataclass(frozen=True)
class KernelTime:
    """One call of a compiled function in an inference, or the runtime's part.

    ``counters`` holds what the source counted beside time, if it counts.
    """

    function: str
    latency: Estimate
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PackageTiming:
    """One inference of a package: as a whole, and its kernels in order of execution."""

    total: Estimate
    kernels: tuple[KernelTime, ...]


class MeasuredSource(ABC):
    """A source that compiles what it is asked for and measures the code."""

    name: str

    def __init__(self, target: Target, threads: int | None = None) -> None:
        self.target = target
        self.threads = min(threads or target.threads, target.machine.cores)
        self._operators: dict[str, Estimate] = {}

    @abstractmethod
    def measure(self, package: Package, *, alone: bool = False) -> PackageTiming:
        """Time a package made for this target and these threads.

        Args:
            alone: it is one operator, to be measured as in a larger network.

        Raises:
            GosError: it cannot be measured; the subclass says why.
        """

    def operator(self, graph: Graph) -> Estimate:
        """One operator alone: its kernels, without the runtime. Measured once."""
        known = self._operators.get(graph.digest)
        if known is None:
            with tempfile.TemporaryDirectory(prefix="gos_fx_operator_") as folder:
                package = package_operator(
                    graph, self.target, Path(folder), self.threads
                )
                timing = self.measure(package, alone=True)
            known = self._sum(k for k in timing.kernels if k.function != RUNTIME)
            self._operators[graph.digest] = known
        return known

    def network(
        self, network: fx.GraphModule, inputs: tuple[Any, ...]
    ) -> NetworkLatency:
        """One inference of a traced network, by operator.

        Raises:
            GosError: it cannot be compiled or measured; the subclass says why.
        """
        opaque = make_opaque(network, inputs)
        outputs = tensors(run_once(opaque, inputs))
        with tempfile.TemporaryDirectory(prefix="gos_fx_network_") as folder:
            package, _ = package_network(
                opaque, inputs, outputs, self.target, Path(folder), self.threads
            )
            timing = self.measure(package)
        owners = assign(timing.kernels, package.manifest["kernels"])
        ours = {n for n, m in opaque.named_modules() if isinstance(m, OpaqueOperator)}
        operators: dict[str, list[KernelTime]] = {}
        others: dict[str, list[KernelTime]] = {}
        for kernel, owner in zip(timing.kernels, owners, strict=True):
            if owner is not None and owner in ours:
                operators.setdefault(owner, []).append(kernel)
            else:  # by what it was in torch, where that is known
                others.setdefault(owner or kernel.function, []).append(kernel)
        return NetworkLatency(
            timing.total,
            {name: self._sum(kernels) for name, kernels in operators.items()},
            {name: self._sum(kernels) for name, kernels in others.items()},
            {name: _counted(kernels) for name, kernels in (operators | others).items()},
        )

    def _sum(self, kernels: Iterable[KernelTime]) -> Estimate:
        return total((k.latency for k in kernels), self.name, self.target.name)


def assign(
    kernels: Sequence[KernelTime], calls: Sequence[Mapping[str, str]]
) -> list[str | None]:
    """What each executed kernel was in torch; None for those that TVM made.

    A kernel of several operators belongs to the first, whose epilogue the others are.

    Args:
        calls: function and module of our kernels, in order of execution.

    Raises:
        Unsupported: the executed kernels are not those that were compiled.
    """
    owners: list[str | None] = []
    left = list(calls)
    for kernel in kernels:
        if left and kernel.function == left[0]["function"]:
            owners.append(left.pop(0)["operator"])
        else:
            owners.append(None)
    if left:
        raise Unsupported(
            f"{len(left)} kernels of the package were not executed in order",
            where=f"function {left[0]['function']}",
            do="Report this: the compiler reordered the network.",
        )
    return owners


def _counted(kernels: Iterable[KernelTime]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for kernel in kernels:
        for name, value in kernel.counters.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums
