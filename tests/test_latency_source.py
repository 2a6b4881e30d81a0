"""optimize with sources that measure: what is believed, what happens when they fail.

Real compilations, real measurements; only how steady they have to be is relaxed, for
other programs run on this machine too.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import gos_fx
from gos_fx.errors import BadOption, EmulatorUnavailable, UnsteadyMeasurement
from gos_fx.ir.graph import Graph
from gos_fx.kernels.host_timing import Repeats
from gos_fx.latency.analytical import AnalyticalSource
from gos_fx.latency.choice import available, choose
from gos_fx.latency.host import HostSource
from gos_fx.latency.model import Estimate
from gos_fx.pipeline import prepare
from gos_fx.result import OptimizationResult
from gos_fx.targets import get

CALM = Repeats(most=10, least=3, seconds=0.2, limit=1e9, attempts=1)
X = torch.zeros(1, 3, 16, 16)


class Net(nn.Module):
    """Two convolutions of one template, the second much larger, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 64, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.pool(self.b(self.a(x)))))


class Noted(HostSource):
    """The host, with a note of what it was asked for."""

    def __init__(self, threads: int = 1) -> None:
        super().__init__(get("host"), threads, CALM)
        self.graphs: Counter[str] = Counter()
        self.networks = 0

    def operator(self, graph: Graph) -> Estimate:
        self.graphs[graph.digest] += 1
        return super().operator(graph)

    def network(self, network: fx.GraphModule, inputs: tuple[Any, ...]) -> Any:
        self.networks += 1
        return super().network(network, inputs)


def optimized(target: str = "host", **options: Any) -> fx.GraphModule:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "example_inputs": X,
        "iterations": 1,
        "population": 4,
        "max_replacements": 1,
        "epsilon": 0.9,
        "threads": 1,
    }
    return gos_fx.optimize(Net().eval(), target, **{**settings, **options})


@pytest.fixture
def relaxed(monkeypatch: pytest.MonkeyPatch) -> None:
    """``open_source("host")`` accepts what a busy machine gives."""
    options = {"most": 10, "least": 3, "seconds": 0.2, "limit": 1e9, "attempts": 1}
    monkeypatch.setattr("gos_fx.latency.host.Repeats", partial(Repeats, **options))


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without qemu and LLVM: nothing on the path."""
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.fixture(scope="module")
def measured() -> tuple[fx.GraphModule, Noted]:
    source = Noted()
    options = {"iterations": 2, "max_replacements": 2, "similar": 2}
    return optimized(latency_source=source, **options), source


def test_original_and_result_are_measured_as_a_whole(
    measured: tuple[fx.GraphModule, Noted],
) -> None:
    small, source = measured
    result = small.gos
    assert result.facts["latency_source"] == "host"
    assert result.facts["latency_confirmed"] is True
    assert "latency_unconfirmed" not in result.facts
    assert result.baseline.confirmed and result.optimized.confirmed
    assert {p.measures.latency.source for p in result.pareto_front} == {"host"}
    taken = ((), result.replacements)
    others = [p for p in result.pareto_front if p.replacements not in taken]
    whole = [p for p in others if p.measures.confirmed]
    assert all(
        p.replacements == result.replacements[: len(p.replacements)] for p in whole
    )
    replaced = sum(h["replaced"] for h in result.history)
    assert source.networks == 1 + replaced


def test_finalists_are_judged_by_measurement_and_each_once(
    measured: tuple[fx.GraphModule, Noted],
) -> None:
    small, source = measured
    assert source.graphs and set(source.graphs.values()) == {1}
    for replacement in small.gos.replacements:
        assert replacement.latency_before.source == "host"
        assert replacement.latency_after.source == "host"
        for bindings in replacement.bindings:
            assert replacement.before.instantiate(bindings).digest in source.graphs
            assert replacement.after.instantiate(bindings).digest in source.graphs
    judged = {h["operators"][0] for h in small.gos.history}
    assert judged and all(h["unmeasured"] == {} for h in small.gos.history)


def test_it_is_saved_and_loaded(
    measured: tuple[fx.GraphModule, Noted], tmp_path: Any
) -> None:
    result = measured[0].gos
    result.save(tmp_path)
    assert gos_fx.load(tmp_path).gos.to_json() == result.to_json()


def test_analytical_confirms_nothing_and_says_so() -> None:
    facts = optimized(latency_source="analytical").gos.facts
    assert facts["latency_source"] == "analytical"
    assert facts["latency_confirmed"] is False
    assert "measures nothing" in facts["latency_unconfirmed"]
    assert "latency_refused" not in facts


def test_a_named_source_that_fails_raises() -> None:
    strict = HostSource(get("host"), 1, Repeats(most=10, limit=1e-9, attempts=1))
    with pytest.raises(UnsteadyMeasurement):
        optimized(latency_source=strict)


def test_a_named_source_that_is_not_to_be_had_raises(no_tools: None) -> None:
    with pytest.raises(EmulatorUnavailable, match="qemu"):
        optimized("arm_a53", latency_source="emulator")
    with pytest.raises(EmulatorUnavailable, match="qemu"):
        gos_fx.profile(Net().eval(), "arm_a53", example_inputs=X, source="emulator")


def test_auto_without_anything_says_why(no_tools: None) -> None:
    result = optimized("arm_a53").gos
    assert result.facts["latency_source"] == "analytical"
    assert result.facts["latency_confirmed"] is False
    (refused,) = result.facts["latency_refused"]
    assert refused["source"] == "emulator" and "qemu" in refused["reason"]
    assert refused["reason"] in result.facts["latency_unconfirmed"]
    assert not result.baseline.confirmed
    assert {p.measures.latency.source for p in result.pareto_front} == {"analytical"}


def test_auto_takes_the_host_for_the_host(relaxed: None) -> None:
    small = optimized(latency_source="auto")
    assert small.gos.facts["latency_source"] == "host"
    assert small.gos.facts["latency_confirmed"] is True


@pytest.fixture
def all_cores() -> Iterator[int]:
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("one core cannot be taken away")
    yield min(cpus)
    os.sched_setaffinity(0, cpus)


def test_auto_that_loses_its_source_restates_everything(
    relaxed: None, all_cores: int
) -> None:
    """After the original was measured, the process loses all cores but one."""

    def lose(entry: dict[str, Any]) -> None:
        os.sched_setaffinity(0, {all_cores})

    restated(optimized(threads=2, progress=lose).gos)


def test_auto_that_loses_its_source_with_the_last_measurement(
    relaxed: None, all_cores: int
) -> None:
    """The finalists were measured; the network with the winner in it cannot be."""
    searched: list[int] = []

    def note(entry: dict[str, Any]) -> None:
        searched.append(entry["generation"])

    def metric(outputs: Tensor, targets: Tensor) -> float:
        if len(searched) == 2:  # the search is over: the winner is being scored
            os.sched_setaffinity(0, {all_cores})
        return 1.0 - float((outputs - targets).square().mean())

    large = torch.zeros(1, 3, 48, 48)  # what can be gained stands out of the noise
    result = optimized(
        example_inputs=large,
        only="b",
        threads=2,
        progress=note,
        metric=metric,
        eval_data=[(large, torch.zeros(1, 5))],
        iterations=2,
        population=8,
    ).gos
    assert [h["replaced"] for h in result.history] == [True]
    restated(result, large)


def restated(result: OptimizationResult, inputs: Tensor = X) -> None:
    """Everything is the model's: measured numbers cannot be compared with it."""
    (refused,) = result.facts["latency_refused"]
    assert refused["source"] == "host" and "may use 1 CPUs" in refused["reason"]
    assert result.facts["latency_confirmed"] is False
    assert result.facts["latency_source"] == "analytical"
    everything = [result.baseline, *(p.measures for p in result.pareto_front)]
    assert {m.latency.source for m in everything} == {"analytical"}
    assert not any(m.confirmed for m in everything)
    for r in result.replacements:
        assert {r.latency_before.source, r.latency_after.source} == {"analytical"}
    source = AnalyticalSource(get("host"), 2)
    assert (
        result.baseline.latency
        == source.network(prepare(Net().eval(), (inputs,))).total
    )


def test_a_named_source_lost_in_the_search_raises(all_cores: int) -> None:
    def lose(entry: dict[str, Any]) -> None:
        os.sched_setaffinity(0, {all_cores})

    with pytest.raises(BadOption, match="may use 1 CPUs"):
        optimized(latency_source=Noted(2), threads=2, progress=lose)


@pytest.mark.qemu
def test_the_emulator_confirms_and_repeats() -> None:
    """Same seed, same machine code, same counts: the same result, number by number."""
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    first = optimized("arm_a53", latency_source="emulator").gos
    assert first.facts["latency_source"] == "emulator"
    assert first.facts["latency_confirmed"] is True
    assert first.speedup > 1.0
    assert {r.latency_after.source for r in first.replacements} == {"emulator"}
    again = optimized("arm_a53").gos  # auto takes it
    assert again.to_json() == first.to_json()


def test_the_order_of_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TVM_TRACKER_HOST", "TVM_TRACKER_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert available(get("arm_a53")) == ["emulator"]
    assert available(get("host")) == ["host"]
    boards = get("arm_a53").on_board("127.0.0.1:9190", "pi")
    assert available(boards) == ["board", "emulator"]
    monkeypatch.setenv("TVM_TRACKER_HOST", "127.0.0.1")
    assert available(get("arm_a53")) == ["emulator"]  # which of its boards?
    monkeypatch.setenv("TVM_TRACKER_KEY", "pi")
    assert available(get("arm_a53")) == ["board", "emulator"]
    assert available(get("host")) == ["host"]


def test_a_source_of_another_target() -> None:
    source = HostSource(get("host"), 1, CALM)
    with pytest.raises(BadOption, match="it measures host, not arm_a53"):
        choose(source, get("arm_a53"), 1)
