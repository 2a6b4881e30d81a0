"""Costs of scans, which are one function each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx import targets
from gos_fx.ir.graph import Graph
from gos_fx.ir.network import Network
from gos_fx.ir.parser import parse
from gos_fx.latency.analytical import AnalyticalSource, costs_of, graph_latency
from gos_fx.latency.constants import constants_of
from gos_fx.passes.trace import trace

A53 = targets.get("arm_a53")
RNN = """\
def rnn(x: map[1, {steps}, 64], h: map[1, {size}], *, w: weight[64, {size}], u: weight[{size}, {size}]) -> map[1, {steps}, {size}]:
    def cell(x: map[1, 64], h: map[1, {size}], *, w: weight[64, {size}], u: weight[{size}, {size}]) -> map[1, {size}]:
        v0 = matmul(x, w)
        v1 = matmul(h, u)
        v2 = add(v0, v1)
        v3 = tanh(v2)
        return v3
    v0 = scan(x, h, w, u, body=cell, states=("h",))
    v1 = result(v0, index=0)
    return v1"""  # noqa: E501
STEP = """\
def cell(x: map[1, 64], h: map[1, {size}], *, w: weight[64, {size}], u: weight[{size}, {size}]) -> map[1, {size}]:
    v0 = matmul(x, w)
    v1 = matmul(h, u)
    v2 = add(v0, v1)
    v3 = tanh(v2)
    return v3"""  # noqa: E501


def seconds(graph: Graph) -> float:
    return graph_latency(graph, A53, 1).seconds


def rnn(steps: int, size: int) -> Graph:
    return parse(RNN.format(steps=steps, size=size))


def test_a_scan_takes_its_steps() -> None:
    """Each as long as its body, whose weights stay in the cache; what is called once
    for a network, each kernel and its first lines, does not count again."""
    each = (seconds(rnn(52, 128)) - seconds(rnn(2, 128))) / 50
    graph = parse(STEP.format(size=128))
    alone = [cost for _, cost in costs_of(Network.of(graph), A53, 1, border=False)]
    calls = len(alone) * constants_of(A53).call
    cycles = sum(x.serial + x.parallel(1) for x in alone) - calls
    assert each == pytest.approx(cycles / A53.machine.clock_hz, rel=0.15)


def test_weights_that_the_cache_does_not_hold_are_fetched_each_step() -> None:
    """512 KB of L2: 1 MB of weights is 16384 lines of 64 bytes for each step."""
    size = 512
    each = (seconds(rnn(22, size)) - seconds(rnn(2, size))) / 20
    fits = (seconds(rnn(22, 256)) - seconds(rnn(2, 256))) / 20
    assert A53.emulation is not None
    dram = 16384 * A53.emulation.fit(1).line_s
    assert each > dram > 2 * fits


def test_what_is_done_before_the_first_step_belongs_to_the_layer() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(64, 128, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            steps, _ = self.rnn(x)
            return steps[:, -1]

    traced = trace(Last().eval(), (torch.randn(1, 32, 64),))
    found = AnalyticalSource(A53, 1).network(traced)
    assert set(found.operators) == {"rnn"}
    assert found.operators["rnn"].seconds > 0.97 * found.total.seconds
