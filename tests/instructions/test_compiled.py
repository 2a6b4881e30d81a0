"""Every instruction as compiled code: on this machine, and as ARM code under qemu.

y of compiled code agrees with y64 of the reference in float64 where |y - y64| is at
most ten times the larger of |y32 - y64|, the reference in float32, and the tolerance of
the instruction. Factors of a matrix are also compared by what they multiply to.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from instruction_case import comparable, graph_of, operands
from instruction_cases import CASES
from torch import Tensor, nn

from gos_fx.ir.builder import Builder
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.opaque import call
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.types import Type
from gos_fx.kernels.build import build
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.package import Package, TensorSpec, save_package
from gos_fx.targets.target import get


def inside(graph: Graph) -> Graph:
    """The graph between kernels that hold images with their channels side by side."""
    b = Builder(graph.name)
    names = {v.name: b.input(v.name, v.type) for v in graph.inputs}
    for v in graph.maps:
        if v.type.rank == 4 and v.type.dtype == "float32":
            names[v.name] = b.emit("max_pool", names[v.name], **IDENTITY)
    for node in graph.nodes:
        given = [names[name] for name in node.operands]
        names[node.name] = b.append(node.opcode, given, node.attrs)
    output = names[graph.output]
    if graph.result.rank == 4 and graph.result.dtype == "float32":
        output = b.emit("max_pool", output, **IDENTITY)
    return b.build(output)


IDENTITY = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0)}
GRAPHS = {name: graph_of(opcode, case) for name, (opcode, case) in CASES.items()}
INSIDE = {name: inside(graph) for name, graph in GRAPHS.items()}
VALUES = {name: operands(GRAPHS[name], case.draw) for name, (_, case) in CASES.items()}


class Calls(nn.Module):
    """Each graph as one opaque call on inputs of its own."""

    def __init__(
        self, graphs: Mapping[str, Graph], values: Mapping[str, dict[str, Tensor]]
    ) -> None:
        super().__init__()
        self.graphs = graphs
        self.weights = nn.ParameterDict(
            {
                f"{i}_{v.name}": nn.Parameter(values[name][v.name], requires_grad=False)
                for i, (name, graph) in enumerate(graphs.items())
                for v in graph.weights
            }
        )

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        left = iter(maps)
        results: list[Tensor] = []
        for i, graph in enumerate(self.graphs.values()):
            given = [
                next(left) if v.type.role == "map" else self.weights[f"{i}_{v.name}"]
                for v in graph.inputs
            ]
            results += call(graph, given)
        return tuple(results)


def compiled(
    graphs: Mapping[str, Graph],
    values: Mapping[str, dict[str, Tensor]],
    target: str,
    folder: Path,
) -> tuple[Package, list[Tensor]]:
    """All graphs in one library, and its inputs."""
    module = Calls(graphs, values).eval()
    inputs = [
        values[name][v.name] for name, graph in graphs.items() for v in graph.maps
    ]
    result = build(module, tuple(inputs), get(target), folder)
    package = save_package(
        folder,
        result.library,
        get(target),
        [TensorSpec.of(f"x{i}", x) for i, x in enumerate(inputs)],
        [TensorSpec.of(f"y{i}", y) for i, y in enumerate(module(*inputs))],
        threads=1,
    )
    return package, inputs


def by_case(graphs: Mapping[str, Graph], found: Any) -> dict[str, Any]:
    """The results of the library, one or a tuple for each graph."""
    left: Iterator[Tensor] = iter(torch.as_tensor(y) for y in found)
    return {
        name: tuple(next(left) for _ in graph.result.parts)
        if graph.result.is_bundle
        else next(left)
        for name, graph in graphs.items()
    }


def wide(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in values.items()}


def disagreement(name: str, found: Any) -> str:
    """Empty where compiled code agrees with the reference."""
    opcode, _ = CASES[name]
    graph, values = GRAPHS[name], VALUES[name]
    single = evaluate(graph, values)
    exact = comparable(opcode, evaluate(graph, wide(values)))
    for i, (y, y32, y64) in enumerate(
        zip(comparable(opcode, found), comparable(opcode, single), exact, strict=True)
    ):
        if y.shape != y64.shape:
            return f"{name}: result {i} has shape {tuple(y.shape)}"
        tolerance = OPCODES[opcode].rtol * max(1e-30, float(y64.abs().max()))
        allowed = 10 * max(float((y32 - y64).abs().max()), tolerance)
        error = float((y - y64).abs().max())
        if not error <= allowed:
            return f"{name}: result {i} is off by {error:.1e} > {allowed:.1e}"
    promised = [part.dtype for part in graph.result.values]
    parts = found if isinstance(found, tuple) else (found,)
    dtypes = [str(part.dtype).removeprefix("torch.") for part in parts]
    return "" if dtypes == promised else f"{name}: {dtypes} for {promised}"


def disagreements(found: dict[str, Any]) -> list[str]:
    return [why for name in found if (why := disagreement(name, found[name]))]


def part_of(graphs: Mapping[str, Graph], part: int) -> dict[str, Graph]:
    """One of the libraries; the program under qemu takes so many tensors, not more."""
    return {name: graphs[name] for name in list(graphs)[part::PARTS]}


PARTS = 4
every_part = pytest.mark.parametrize("part", range(PARTS))


@every_part
def test_host(part: int, tmp_path: Path) -> None:
    """As in the middle of a network; under qemu each stands alone."""
    graphs = part_of(INSIDE, part)
    package, inputs = compiled(graphs, VALUES, "host", tmp_path)
    found = HostModule.from_package(package, 1)(*inputs)
    assert disagreements(by_case(graphs, found)) == []


@pytest.fixture
def qemu() -> str:
    path = shutil.which("qemu-aarch64")
    if path is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    return path


@pytest.mark.qemu
@every_part
def test_arm(part: int, qemu: str, tmp_path: Path) -> None:
    graphs = part_of(GRAPHS, part)
    package, inputs = compiled(graphs, VALUES, "arm_a53", tmp_path)
    found = emulate(package, [x.numpy() for x in inputs])
    assert disagreements(by_case(graphs, found)) == []


BAD = ("inverse", "det", "cholesky", "eigh", "svd", "qr", "pinv", "matrix_rank")


def matrices() -> Tensor:
    """A good one between one that is infinite, singular, not a number."""
    good = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 4.0]])
    found = torch.stack([good, good, torch.ones(3, 3), good])
    found[0, 1, 0], found[3, 2, 2] = float("inf"), float("nan")
    return found


def test_bad_matrices_give_numbers_that_are_not_finite(tmp_path: Path) -> None:
    graphs = {}
    for opcode in BAD:
        b = Builder(opcode)
        x = b.input("x", Type("map", (4, 3, 3)))
        graphs[opcode] = b.build(b.emit(opcode, x))
    values = {opcode: {"x": matrices()} for opcode in BAD}
    package, inputs = compiled(graphs, values, "host", tmp_path)
    found = by_case(graphs, HostModule.from_package(package, 1)(*inputs))
    for opcode, graph in graphs.items():
        expected = evaluate(graph, values[opcode])
        pairs = zip(*(
            y if isinstance(y, tuple) else (y,) for y in (found[opcode], expected)
        ))  # fmt: skip
        for y, reference in pairs:
            assert torch.isnan(y[[0, 3]]).all(), opcode
            assert torch.isfinite(y[1]).all(), opcode
            assert torch.equal(torch.isfinite(y[2]), torch.isfinite(reference[2])), (
                opcode
            )
