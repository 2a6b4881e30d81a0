"""Transposed convolutions as one correlation with all phases of their filters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gos_fx.ir.decompose import decompose
from gos_fx.ir.fusion import partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.network import Network
from gos_fx.ir.parser import parse
from gos_fx.ir.phases import join_phases
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.trace import trace

SHAPE = (2, 6, 5, 4)


def operator(
    layers: list[nn.Module], shape: tuple[int, ...] = SHAPE
) -> tuple[Operator, Tensor, Tensor]:
    """The first operator of some layers, an input, and what they make of it."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(*layers).eval()
    return find_operators(trace(model, (x,)))[0], x, model(x).detach()


def values(operator: Operator, x: Tensor) -> dict[str, Tensor]:
    graph = operator.concrete
    return {graph.maps[0].name: x, **operator.weights}


def correlations(graph: Graph | Network) -> list[tuple[int, ...]]:
    """Sizes of the filters."""
    return [
        tuple(graph.types[node.operands[1]].shape)
        for node in graph.nodes
        if node.opcode == "cross_correlation"
    ]


@pytest.mark.parametrize(
    ("layer", "shape", "filters"),
    [
        (nn.ConvTranspose2d(6, 4, 2, 2), SHAPE, (16, 6, 1, 1)),
        (nn.ConvTranspose2d(6, 4, 4, 2, 1), SHAPE, (16, 6, 3, 3)),
        (nn.ConvTranspose2d(6, 4, 3, 2, 1, 1), SHAPE, (16, 6, 2, 2)),
        (nn.ConvTranspose2d(6, 4, (5, 2), (3, 1), (0, 1)), SHAPE, (12, 6, 2, 2)),
        (nn.ConvTranspose2d(6, 4, 1, 2, bias=False), SHAPE, (16, 6, 1, 1)),
        (nn.ConvTranspose2d(6, 4, 2, 3), SHAPE, (36, 6, 1, 1)),
        (nn.ConvTranspose2d(6, 4, 7, 2, 5), SHAPE, (16, 6, 4, 4)),
        (nn.ConvTranspose1d(6, 4, 5, 3, 2), (2, 6, 7), (12, 6, 1, 2)),
    ],
    ids=str,
)
def test_all_phases_at_once(
    layer: nn.Module, shape: tuple[int, ...], filters: tuple[int, ...]
) -> None:
    found, x, expected = operator([layer, nn.ReLU()], shape)
    joined = join_phases(found.concrete)
    torch.testing.assert_close(
        evaluate(joined, values(found, x)).detach(), expected, rtol=1e-5, atol=1e-5
    )
    assert correlations(joined) == [filters]
    assert joined.output == found.concrete.output
    assert join_phases(joined) is joined
    spread = [
        node
        for node in joined.nodes
        if node.opcode == "pad" and node.type.role == "map"
    ]
    assert not spread


def test_bias_and_activation_stay_in_the_kernel() -> None:
    found, *_ = operator([nn.ConvTranspose2d(6, 4, 4, 2, 1), nn.Tanh()])
    kernels = [
        [node.opcode for node in kernel.nodes]
        for kernel in partition(decompose(found.concrete))
        if kernel.nodes[-1].type.role == "map"
    ]
    assert kernels == [
        ["cross_correlation", "sum", "add", "tanh"],
        *(["reshape"], ["transpose"], ["reshape"]),
    ]


def test_owners_of_a_network() -> None:
    found, *_ = operator([nn.ConvTranspose2d(6, 4, 2, 2)])
    network = Network.of(found.concrete)
    owner = dict.fromkeys(network.owners, "layer")
    joined = join_phases(replace(network, owners=owner))
    assert {joined.owners[node.name] for node in joined.nodes} == {"layer"}


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(6, 4, 3),
        nn.ConvTranspose2d(6, 4, 2, 2, groups=2),
        nn.ConvTranspose2d(6, 4, 3, 2, dilation=2),
        nn.Conv2d(6, 4, 3, 2),
    ],
    ids=str,
)
def test_others_stay(layer: nn.Module) -> None:
    found, *_ = operator([layer])
    assert join_phases(found.concrete) is found.concrete


TEXT = """\
def f(x: map[2, 6, 5, 4], *, w: weight[4, 6, 2, 2]) -> map[2, 4, 10, 8]:
    v0 = reshape(x, shape=(2, 30, 1, 4, 1))
    v1 = pad(v0, amounts=(0, 0, 0, 0, 0, 1, 0, 0, 0, 1), mode="zeros")
    v2 = reshape(v1, shape=(2, 6, 10, 8))
    v3 = cross_correlation(v2, w, stride=(1, 1), padding=(1, 0, 1, 0))
    v4 = sum(v3, axis="ci")
    return v4
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v4 = sum(v3", "t = tile(v3, co=4)\n    v4 = sum(t"),  # its loops are wanted
        ("v4 = sum", "v4 = max"),
        ("0, 1, 0, 0, 0, 1)", "1, 0, 0, 0, 0, 1)"),  # zeros in front
        ('"zeros"', '"replicate"'),
        ("v2 = reshape", "u = relu(v1)\n    v2 = reshape"),
    ],
)
def test_what_only_looks_alike_stays(old: str, new: str) -> None:
    assert old in TEXT
    text = TEXT.replace(old, new)
    graph = parse(text.replace("reshape(v1", "reshape(u") if "u =" in new else text)
    assert join_phases(parse(TEXT)) != parse(TEXT)
    assert join_phases(graph) is graph
