"""What the analytical source takes a network to be, and what the compiler makes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.ir.fusion import partition
from gos_fx.kernels.build import kernels_of
from gos_fx.kernels.movement import settle
from gos_fx.latency.analytical import AnalyticalSource
from gos_fx.latency.between import network_of
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.passes.operators import find_operators
from gos_fx.pipeline import prepare
from gos_fx.targets import get

X = torch.zeros(1, 8, 16, 16)
A53 = get("arm_a53")


class Blocks(nn.Module):
    """A residual sum, clips, a gate, a concatenation, a pool and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.c = nn.Conv2d(16, 24, 1)
        self.act = nn.Hardswish()
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x) + x, inplace=True)
        z = F.hardtanh(self.b(y), 0.0, 6.0)
        z = torch.cat([y, z * torch.sigmoid(y)], dim=1)
        z = self.act(self.c(F.max_pool2d(z, kernel_size=2)))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(z, 1), 1))


class Odd(nn.Module):
    """With a function that has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(8, 8, 1)
        self.b = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.cumsum(self.a(x), 1) + 1.0)


def kernels(model: nn.Module) -> list[list[str]]:
    """Opcodes of the kernels that an inference runs, as the model sees them."""
    traced = prepare(model.eval(), (X,))
    network, unknown = network_of(traced, find_operators(traced))
    assert not unknown
    network, _ = settle(network, border=True)
    return [
        [node.opcode for node in kernel.nodes]
        for kernel in partition(network)
        if kernel.nodes[-1].type.role == "map"
    ]


def test_the_kernels_are_those_of_the_compiler() -> None:
    opaque = make_opaque(Blocks().eval(), (X,))
    built = kernels_of(opaque, (X,), A53, 1)
    made = [[node.opcode for node in graph.nodes] for graph in built]
    tiled = [found for found in kernels(Blocks()) if found in made]
    assert tiled == made and len(made) >= 6


def test_activations_and_sums_are_part_of_what_makes_their_operand() -> None:
    found = kernels(Blocks())
    convolution = ["cross_correlation", "sum", "add"]
    assert [*convolution, "add", "relu"] in found
    assert [*convolution, "clip"] in found and ["sigmoid", "hadamard"] in found
    assert [*convolution, "affine", "clip", "hadamard"] in found
    source = AnalyticalSource(A53, 1)
    rows = source.network(prepare(Blocks().eval(), (X,)))
    assert {"a", "b", "c", "head"} <= set(rows.operators)
    assert not {"add", "relu", "hardtanh"} & set(rows.others)
    parts = [*rows.operators.values(), *rows.others.values()]
    assert abs(sum(p.seconds for p in parts) - rows.total.seconds) < 1e-12


def test_what_no_rule_knows_is_between_two_networks() -> None:
    traced = prepare(Odd().eval(), (X,))
    network, unknown = network_of(traced, find_operators(traced))
    assert [node.name for node in unknown] == ["cumsum"]
    assert len(network.inputs) == 2 + 4  # the maps that come in, weights and biases
    rows = AnalyticalSource(A53, 1).network(traced)
    assert rows.others["cumsum"].source == "analytical-traffic"
    assert rows.operators["b"].seconds > 0.0 < rows.operators["a"].seconds
