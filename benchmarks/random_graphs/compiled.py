"""What must hold of random graphs in compiled code: many in one network, compiled once.

Where a network does not compile or its program fails, its halves are tried, down to
the graph that is the reason.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.random_graphs.checks import Finding, disagreement
from benchmarks.random_graphs.values import exact_outputs, inputs_of, outputs, rtol_of
from gos_fx.errors import GosError
from gos_fx.ir.graph import Graph
from gos_fx.ir.opaque import call
from gos_fx.kernels import emulator
from gos_fx.kernels.build import build
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.package import TensorSpec, save_package
from gos_fx.targets.target import get

# By seed.
Graphs = dict[int, Graph]
Runs = Callable[["Batch", Path], Sequence[Tensor]]


class Batch(nn.Module):
    """Graphs side by side; their feature maps are inputs, their weights parameters."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        super().__init__()
        self.graphs = tuple(graphs)
        self.values = [inputs_of(graph) for graph in graphs]
        self.weights = nn.ParameterList(
            nn.Parameter(values[v.name], requires_grad=False)
            for graph, values in zip(self.graphs, self.values, strict=True)
            for v in graph.weights
        )
        self.eval()

    def maps(self) -> tuple[Tensor, ...]:
        return tuple(
            values[v.name]
            for graph, values in zip(self.graphs, self.values, strict=True)
            for v in graph.maps
        )

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        left, weights = list(maps), list(self.weights)
        results: list[Tensor] = []
        for graph in self.graphs:
            values = [
                left.pop(0) if value.type.role == "map" else weights.pop(0)
                for value in graph.inputs
            ]
            results += call(graph, values)
        return tuple(results)


def on_host(batch: Batch, folder: Path) -> Sequence[Tensor]:
    """The outputs by code for this machine."""
    library = build(batch, batch.maps(), get("host"), folder, threads=1).library
    return HostModule(library, 1)(*batch.maps())


def on_arm(batch: Batch, folder: Path) -> Sequence[Tensor]:
    """The outputs by code for a Cortex-A53 under qemu."""
    target, maps = get("arm_a53"), batch.maps()
    library = build(batch, maps, target, folder, threads=1).library
    package = save_package(
        folder,
        library,
        target,
        [TensorSpec.of(f"x{i}", x) for i, x in enumerate(maps)],
        [TensorSpec.of(f"y{i}", y) for i, y in enumerate(batch(*maps))],
        threads=1,
    )
    found = emulator.run(package, [np.asarray(x) for x in maps])
    return [torch.from_numpy(np.array(y)) for y in found]


MACHINES: dict[str, Runs] = {"host": on_host, "arm": on_arm}


def check_compiled(graphs: Graphs, machine: str) -> list[Finding]:
    """The graphs that do not compile, or whose code disagrees with torch."""
    batch = Batch(list(graphs.values()))
    try:
        with tempfile.TemporaryDirectory(prefix="gos_fx_random_") as folder:
            found = list(MACHINES[machine](batch, Path(folder)))
    except GosError as error:
        return _halves(graphs, machine, str(error))
    findings = []
    for seed, graph in graphs.items():
        parts = [found.pop(0) for _ in graph.result.values]
        worst = disagreements(graph, parts)
        if worst > 1.0:
            reason = f"{machine}: off by {worst:.3g} times what is allowed"
            findings.append(Finding(seed, reason, graph.text))
    return findings


def _halves(graphs: Graphs, machine: str, reason: str) -> list[Finding]:
    if len(graphs) == 1:
        ((seed, graph),) = graphs.items()
        return [Finding(seed, f"{machine}: {reason}", graph.text)]
    seeds = list(graphs)
    middle = len(seeds) // 2
    parts = seeds[:middle], seeds[middle:]
    return [
        finding
        for part in parts
        for finding in check_compiled({seed: graphs[seed] for seed in part}, machine)
    ]


def disagreements(graph: Graph, found: Sequence[Tensor]) -> float:
    """The largest error of all parts of the output, of what is allowed."""
    inputs = inputs_of(graph)
    return max(
        disagreement(y, single, exact, rtol_of(graph))
        for y, single, exact in zip(
            found, outputs(graph, inputs), exact_outputs(graph, inputs), strict=True
        )
    )
