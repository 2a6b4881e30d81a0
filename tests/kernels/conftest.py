"""Networks made of one operator call for each graph text, all compiled in one go."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gos_fx.ir.graph import Graph
from gos_fx.ir.opaque import call
from gos_fx.ir.parser import parse
from gos_fx.kernels.build import BuildResult, build
from gos_fx.kernels.package import Package, TensorSpec, save_package
from gos_fx.targets.target import get


class Operators(nn.Module):
    """Each graph on inputs of its own; the weights are parameters. A graph of several
    results gives them one after the other."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.graphs: list[Graph] = [parse(text) for text in texts.values()]
        self.weights = nn.ParameterList(
            torch.rand(shape_of(weight)) + 0.5
            if weight.name.startswith("share")
            else torch.randn(shape_of(weight)) * 0.2
            for graph in self.graphs
            for weight in graph.weights
        )
        self.eval()

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

    def example_inputs(self) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        return tuple(
            torch.randn(shape_of(value), generator=generator)
            for graph in self.graphs
            for value in graph.maps
        )


def shape_of(value) -> tuple[int, ...]:
    return tuple(int(dim) for dim in value.type.shape)


def package_of(
    module: nn.Module, inputs: tuple[Tensor, ...], target: str, directory: Path
) -> Package:
    """The network built and packaged."""
    result = build(module, inputs, get(target), directory)
    with torch.no_grad():
        outputs = module(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return save_package(
        directory,
        result.library,
        get(target),
        [TensorSpec.of(f"x{i}", x) for i, x in enumerate(inputs)],
        [TensorSpec.of(f"y{i}", y) for i, y in enumerate(outputs)],
        threads=1,
    )


@pytest.fixture(scope="session")
def operators() -> type[Operators]:
    return Operators


@pytest.fixture(scope="session")
def make_package() -> Callable[..., Package]:
    return package_of


@pytest.fixture(scope="session")
def listing(tmp_path_factory) -> Callable[[str, str], BuildResult]:
    """The code of one graph for a target, as text."""

    def make(text: str, target: str) -> BuildResult:
        module = Operators({"only": text})
        folder = tmp_path_factory.mktemp("listing")
        return build(
            module, module.example_inputs(), get(target), folder, listings=True
        )

    return make


@pytest.fixture
def qemu() -> str:
    path = shutil.which("qemu-aarch64")
    if path is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    return path
