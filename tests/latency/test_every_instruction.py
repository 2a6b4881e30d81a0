"""The models know every instruction: what random graphs cost is a number."""

from __future__ import annotations

import pytest

from benchmarks.random_graphs.generator import random_graph
from gos_fx import targets
from gos_fx.ir.fusion import NO_CODE, partition
from gos_fx.latency.analytical import graph_latency
from gos_fx.latency.energy import EnergyModel

A53 = targets.get("arm_a53")
# Sums with a kept axis that is not the last; an unroll of a sum to one number.
FOUND = (10, 68)


@pytest.mark.parametrize("seed", sorted({*range(80), *FOUND}))
def test_a_random_graph_has_a_cost(seed: int) -> None:
    graph = random_graph(seed)
    runs = any(
        kernel.nodes[-1].type.role == "map" and kernel.anchor.opcode not in NO_CODE
        for kernel in partition(graph)
    )
    for threads in (1, 4):
        seconds = graph_latency(graph, A53, threads).seconds
        assert seconds < 1.0 and (seconds > 0.0) is runs
    work = EnergyModel(A53).graph(graph)
    assert work.flops >= 0.0 and work.dram_bytes >= 0.0
