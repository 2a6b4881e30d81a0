"""The operators of the paper's Table 3, and LSTM to GRU: reached from the standard ones
by recorded edits, compiled, and equal to formulas of torch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gos_fx.ir.opaque  # noqa: F401  (registers the custom operator)
from gos_fx.evolve.mutations import MUTATIONS, Site
from gos_fx.ir.decompose import decompose
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.ir.projection import project
from gos_fx.ir.verifier import verify
from gos_fx.kernels.build import build
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.package import TensorSpec, save_package
from gos_fx.latency.analytical import graph_latency
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.trace import trace
from gos_fx.targets.target import get

Step = tuple[str, Site]
Weights = dict[str, Tensor]


def step(name: str, node: str, **settings: Any) -> Step:
    return name, Site(node, tuple(settings.items()))


def inside(scan: str, name: str, node: str, **settings: Any) -> Step:
    """The same in the body of a scan."""
    return step("edit_body", scan, mutation=name, site=step(name, node, **settings)[1])


def gap(axis: int, place: int, zeros: int) -> Step:
    return step("change_gaps", "v0", axis=axis, gap=place, zeros=zeros)


LITERAL = step("change_kernel", "v0", kernel=(3, 3))
OWN = ((1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (1, 1), (3, 3))
SEQUENCES: dict[str, list[Step]] = {
    f"{zeros} zero columns": [LITERAL, gap(1, 0, zeros), gap(1, 1, zeros)]
    for zeros in (1, 2, 3)
} | {
    "different columns": [
        step("change_kernel", "v0", kernel=(3, 5)),
        *(gap(1, place, zeros) for place, zeros in enumerate((1, 2, 3))),
        gap(0, 1, 1),
    ],
    "own dilations": [
        step("separate_channels", "v0"),
        step("change_group_dilation", "v0", runs=8, first=1),
        step("change_group_dilation", "v0", runs=8, run=6, to=(1, 1)),
    ],
    "polynomial": [step("polynomial_batch_norm", "v3")],
    "slope 0.01": [step("change_attribute", "v3", attribute="slope", value=0.01)],
    "slope 0.03": [step("change_attribute", "v3", attribute="slope", value=0.03)],
    "gru": [
        inside("v2", "complement", "v5", other="v11"),
        inside(
            *("v2", "insert_binary", "v11"),
            opcode="hadamard",
            attributes=(),
            other="v19",
        ),
        inside("v2", "delete_instruction", "v25", keep="v24"),
        inside("v2", "delete_instruction", "v24", keep="v23"),
        step("merge_states", "v2", keep="h", drop="c"),
    ],
}


class Layer(nn.Module):
    """A network of one layer, and of what that gives first."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.several = isinstance(layer, nn.LSTM)

    def forward(self, x: Tensor) -> Any:
        y = self.layer(x)
        return y[0] if self.several else y


IMAGE, SEQUENCE = (2, 8, 9, 10), (3, 5, 4)


def layer(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(3)
    if name == "gru":
        return nn.LSTM(4, 6, batch_first=True), SEQUENCE
    if name == "polynomial":
        norm = nn.BatchNorm2d(8)
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            assert value is not None
            value.data.uniform_(0.5, 1.5)
        return norm, IMAGE
    stride = 2 if name == "different columns" else 1
    conv = nn.Conv2d(8, 12, 3, padding=1, stride=stride)
    return nn.Sequential(conv, nn.ReLU()) if "slope" in name else conv, IMAGE


def operator(name: str) -> tuple[Operator, Tensor]:
    module, shape = layer(name)
    x = torch.randn(shape)
    network = trace(Layer(module).eval(), (x,))
    (found,) = find_operators(network)
    assert found.template is not None
    return found, x


def edited(name: str) -> tuple[Operator, Graph, Weights, Tensor]:
    """The last graph of a sequence, each step checked, with the weights at the site."""
    original, x = operator(name)
    graph = original.template
    assert graph is not None
    weights: Weights = {}
    for mutation, site in SEQUENCES[name]:
        assert site in MUTATIONS[mutation].sites(graph)
        child = MUTATIONS[mutation].apply(graph, site)
        assert isinstance(child, Graph), child
        graph = verify(child)
        assert parse(graph.text) == graph
        concrete = verify(graph.instantiate(original.bindings))
        weights = {
            value.name: project(
                value.init or value.name, original.weights, original.bindings
            )
            for value in graph.weights
        }
        for value in concrete.weights:
            assert tuple(weights[value.name].shape) == value.type.shape
    return original, graph, weights, x


def value_of(original: Operator, graph: Graph, weights: Weights, x: Tensor) -> Tensor:
    concrete = graph.instantiate(original.bindings)
    (name,) = (value.name for value in concrete.maps)
    found: Tensor = evaluate(concrete, {**weights, name: x})
    return found


def with_zeros(w: Tensor, axis: int, zeros: Sequence[int]) -> Tensor:
    """Rows or columns of zeros between those of a filter."""
    parts = [w.select(axis, 0)]
    for i, count in enumerate(zeros):
        parts += [torch.zeros_like(parts[0])] * count + [w.select(axis, i + 1)]
    return torch.stack(parts, axis)


def columns(conv: nn.Conv2d, x: Tensor, zeros: Sequence[int]) -> Tensor:
    w = with_zeros(conv.weight, 3, zeros)
    return F.conv2d(x, w, conv.bias, padding=(1, w.shape[3] // 2))


def different(conv: nn.Conv2d, x: Tensor) -> Tensor:
    w = F.pad(conv.weight, (1, 1))  # 3 x 5, the old filter in the middle
    w = with_zeros(with_zeros(w, 3, (1, 2, 3, 0)), 2, (0, 1))
    assert w.shape[2:] == (4, 11)
    # As with a plain kernel of 3 and padding 1 the window's centre stays, rounded up.
    x = F.pad(x, (5, 5, 1, 2))
    return F.conv2d(x, w, conv.bias, stride=2)


def own_dilations(weights: Weights, bias: Tensor, x: Tensor) -> Tensor:
    filters, gains = weights["w1"], weights["w2"]
    maps = [
        F.conv2d(x[:, c : c + 1], filters[c : c + 1], padding=d, dilation=d)
        for c, d in enumerate(OWN)
    ]
    return F.conv2d(torch.cat(maps, 1), gains, bias)


def gru(lstm: nn.LSTM) -> nn.GRU:
    """z = f, r = o, and the new value from g."""
    made = nn.GRU(4, 6, batch_first=True)
    for name, target in made.named_parameters():
        _, f, g, o = getattr(lstm, name).chunk(4)
        target.data.copy_(torch.cat([o, f, g]))
    return made


@pytest.mark.parametrize("zeros", [1, 2, 3])
def test_columns_of_zeros_inside_the_filter(zeros: int) -> None:
    original, graph, weights, x = edited(f"{zeros} zero columns")
    assert graph.nodes[0].attr("dilation") == (1, zeros + 1)
    expected = columns(layer("")[0], x, (zeros, zeros))
    torch.testing.assert_close(value_of(original, graph, weights, x), expected)


def test_different_columns_have_different_gaps() -> None:
    original, graph, weights, x = edited("different columns")
    assert graph.nodes[0].attr("dilation") == ((1, 2), (2, 3, 4, 1))
    expected = different(layer("different columns")[0], x)
    torch.testing.assert_close(value_of(original, graph, weights, x), expected)


def test_every_channel_has_a_dilation_in_both_directions() -> None:
    original, graph, weights, x = edited("own dilations")
    assert graph.nodes[0].attr("group_dilation") == OWN
    expected = own_dilations(weights, original.weights["b"], x)
    found = value_of(original, graph, weights, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_polynomial_batch_norm() -> None:
    original, graph, weights, x = edited("polynomial")
    module = layer("polynomial")[0].eval()
    torch.testing.assert_close(value_of(original, graph, weights, x), module(x))
    torch.manual_seed(5)
    learned = {k: torch.randn_like(v) if k[0] == "w" else v for k, v in weights.items()}
    mean, var, shift, alpha, beta = (
        learned[name][:, None, None] for name in ("mean", "var", "shift", "w1", "w2")
    )
    centred = x - mean
    expected = centred / var.sqrt() * (alpha * centred**3) + beta * centred + shift
    torch.testing.assert_close(value_of(original, graph, learned, x), expected)


@pytest.mark.parametrize("slope", [0.01, 0.03])
def test_leaky_relu(slope: float) -> None:
    original, graph, weights, x = edited(f"slope {slope}")
    conv = layer("slope")[0][0]
    expected = F.leaky_relu(conv(x), slope)
    torch.testing.assert_close(value_of(original, graph, weights, x), expected)


def test_an_lstm_becomes_a_gru() -> None:
    original, graph, weights, x = edited("gru")
    (scan,) = (node for node in graph.nodes if node.opcode == "scan")
    assert scan.attr("states") == ("h",)
    expected, _ = gru(layer("gru")[0])(x)
    torch.testing.assert_close(value_of(original, graph, weights, x), expected)


@pytest.mark.parametrize("name", SEQUENCES)
def test_their_latency_is_foreseen(name: str) -> None:
    original, graph, _, _ = edited(name)
    concrete = graph.instantiate(original.bindings)
    target = get("arm_a53")
    found = graph_latency(concrete, target)
    assert found.seconds > 0
    # The model sees the kernels that the compiler makes.
    assert graph_latency(decompose(concrete), target) == found


class Edited(nn.Module):
    """Several of them, as the compiler gets them."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.weights = nn.ModuleList()
        self.maps: list[Tensor] = []
        for name in names:
            original, graph, weights, x = edited(name)
            concrete = graph.instantiate(original.bindings)
            self.texts.append(concrete.text)
            self.maps.append(x)
            given = [weights[value.name] for value in concrete.weights]
            self.weights.append(nn.ParameterList(given))
        self.eval()

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            torch.ops.gos_fx.operator(text, [x, *weights])
            for text, x, weights in zip(self.texts, maps, self.weights, strict=True)
        )


def compiled(
    names: Sequence[str], target: str, folder: Path
) -> tuple[Any, Edited, list[Tensor]]:
    module = Edited(names)
    inputs = tuple(module.maps)
    result = build(module, inputs, get(target), folder)
    with torch.no_grad():
        expected = list(module(*inputs))
    package = save_package(
        folder,
        result.library,
        get(target),
        [TensorSpec.of(f"x{i}", x) for i, x in enumerate(inputs)],
        [TensorSpec.of(f"y{i}", y) for i, y in enumerate(expected)],
        threads=1,
    )
    return package, module, expected


def assert_alike(
    names: Sequence[str], expected: Sequence[Tensor], found: Sequence[Any]
) -> None:
    for name, a, b in zip(names, expected, found, strict=True):
        error = float((a - torch.as_tensor(b)).abs().max())
        assert error <= 1e-5 * float(a.abs().max()), name


def test_they_compile_for_this_machine(tmp_path: Path) -> None:
    names = list(SEQUENCES)
    package, module, expected = compiled(names, "host", tmp_path)
    assert_alike(names, expected, HostModule.from_package(package, 1)(*module.maps))


@pytest.mark.qemu
def test_they_run_as_arm_code(tmp_path: Path) -> None:
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    names = ["different columns", "own dilations", "polynomial", "gru"]
    package, module, expected = compiled(names, "arm_a53", tmp_path)
    arrays = [x.numpy() for x in module.maps]
    assert_alike(names, expected, emulate(package, arrays, threads=1))
