"""Objectives beyond latency and parameters, from a candidate to the saved result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gos_fx
from gos_fx.errors import BadOption, InfeasibleConstraints
from gos_fx.evolve.evaluator import Evaluator
from gos_fx.evolve.fitness import OBJECTIVES, Evaluation, Fitness, Individual, dominates
from gos_fx.evolve.mutations import MUTATIONS
from gos_fx.ir.graph import Graph
from gos_fx.latency.energy import EnergyEstimate
from gos_fx.latency.memory import foreseen_memory
from gos_fx.latency.model import Estimate
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.operators import find_operators
from gos_fx.points import composed, front_of, spread_out, winner
from gos_fx.result import Measures, OptimizationResult, Point
from gos_fx.targets import get

ALL = tuple(OBJECTIVES)
X = torch.zeros(1, 3, 16, 16)


def evaluation(
    latency: float, parameters: int = 1, memory: int = 1, joules: float = 1.0
) -> Evaluation:
    return Evaluation(
        "",
        Estimate(latency, 0.1 * latency, "analytical", "arm_a53"),
        parameters,
        memory=memory,
        energy=EnergyEstimate(joules, 0.5 * joules, "modelled", "arm_a53"),
    )


def test_values_and_dominance() -> None:
    a, b = evaluation(1.0, 2, 30, 0.4), evaluation(1.0, 2, 20, 0.4)
    assert a.values(ALL) == (1.0, 2.0, 30.0, 0.4)
    assert dominates(a, b) and dominates(b, a)  # equal in the paper's two
    assert dominates(b, a, ALL) and not dominates(a, b, ALL)


def test_fitness_of_any_length(conv: Graph) -> None:
    individual = Individual(conv, evaluation(1.0, 2, 30, 0.4), 3.0, ALL)
    assert individual.fitness.values == (-2.0, 2.0, 30.0, 0.4)
    assert Individual(conv, evaluation(1.0, 2), 3.0).fitness.values == (-2.0, 2.0)
    assert Fitness((1.0, 1.0, 0.0)).dominates(Fitness((1.0, 1.0, 1.0)))
    assert not Fitness((1.0, 1.0, 1.0)).dominates(Fitness((0.0, 2.0, 0.0)))


def test_memory_and_energy_of_a_candidate(
    make_evaluator: Callable[..., Evaluator],
) -> None:
    evaluator = make_evaluator(objectives=ALL)
    before = evaluator.before
    assert before.memory is not None and before.energy is not None
    same = evaluator.costs.of(evaluator.original)
    assert same == before
    assert (
        evaluator.screen(evaluator.original).reason == "it is dominated by the original"
    )
    plain = make_evaluator()
    assert plain.before.memory is None and plain.before.energy is None
    assert plain.before.latency == before.latency


def test_memory_of_a_candidate_is_that_of_the_network_with_it(
    make_evaluator: Callable[..., Evaluator],
) -> None:
    """Before its weights exist, and with them."""
    evaluator = make_evaluator(objectives=ALL)
    costs, original = evaluator.costs, evaluator.original
    mutation = MUTATIONS["narrow_outputs"]
    graph = mutation.apply(original, mutation.sites(original)[2])
    assert isinstance(graph, Graph)
    found = evaluator.evaluate(graph)
    modules = [
        emit_operator(graph, operator.bindings, weights)
        for operator, weights in zip(evaluator.operators, found.weights, strict=True)
    ]
    pairs = list(zip(evaluator.operators, modules, strict=True))
    network = replace_operators(costs._network, pairs)
    emitted = foreseen_memory(network, find_operators(network), get("arm_a53"))
    assert costs.memory(graph) == emitted.peak
    assert costs.memory(graph) != costs.memory(original)


def point(latency: float, parameters: int, memory: int) -> Point:
    estimate = Estimate(latency, 0.0, "analytical", "arm_a53")
    return Point(Measures(estimate, parameters, 0.5, memory), ())


def test_the_front_has_what_none_beats_in_all() -> None:
    fast, small, lean = point(1.0, 9, 9), point(9.0, 1, 9), point(9.0, 9, 1)
    beaten, taken = point(9.0, 9, 9), point(2.0, 9, 9)
    everything = [beaten, lean, taken, small, fast]
    assert front_of(everything, fast, ALL[:3]) == (fast, small, lean)
    assert front_of(everything, fast, ALL[:2]) == (fast, small)
    assert front_of(everything, taken, ALL[:2]) == (fast, taken, small)


def test_unknown_measures_never_win() -> None:
    known, unknown = (
        point(1.0, 1, 5),
        Point(Measures(Estimate(1.0, 0.0, "analytical", "arm_a53"), 1, 0.5), ()),
    )
    assert unknown.measures.value("memory") == float("inf")
    assert front_of([unknown, known], known, ALL[:3]) == (known,)


def test_finalists_are_spread_over_the_front(conv: Graph) -> None:
    front = [Individual(conv, evaluation(float(i), 20 - i), 0.0) for i in range(10)]
    chosen = spread_out(front[::-1], 4)
    assert [i.fitness.values[0] for i in chosen] == [0.0, 3.0, 6.0, 9.0]
    assert spread_out(front, 10) == front
    assert len(spread_out(front, 1)) == 1


def test_the_winner_gains_more_than_its_error(conv: Graph) -> None:
    before = evaluation(10.0, 100)
    near = Individual(conv, evaluation(9.5, 10), 10.0)  # within sqrt(0.95^2 + 1^2)
    far = Individual(conv, evaluation(5.0, 90), 10.0)
    assert winner([near], before, deployable=True) is None
    assert winner([near, far], before, deployable=True) is far
    assert winner([near, far], before, deployable=False) is near


def test_a_composed_latency() -> None:
    whole = Estimate(8.0, 0.8, "emulator", "arm_a53")
    found = composed(whole, 0.5, evaluation(2.0), evaluation(1.0))
    assert found.seconds == pytest.approx(6.0)  # half of half of it is gone
    assert found.error == pytest.approx(0.6) and found.source == "emulator"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.pool(self.b(self.a(x)))))


def optimized(**options: Any) -> OptimizationResult:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "example_inputs": X,
        "iterations": 2,
        "population": 8,
        "max_replacements": 2,
        "epsilon": 0.9,
        "latency_source": "analytical",
    }
    small: Any = gos_fx.optimize(Net().eval(), "arm_a53", **{**settings, **options})
    found: OptimizationResult = small.gos
    return found


@pytest.fixture(scope="module")
def four() -> OptimizationResult:
    return optimized(objectives=["energy", "memory", "parameters", "latency"])


def test_none_of_the_front_beats_another_in_all_four(four: OptimizationResult) -> None:
    assert four.facts["objectives"] == list(ALL)
    front = [tuple(p.measures.value(name) for name in ALL) for p in four.pareto_front]
    assert all(value < float("inf") for values in front for value in values)
    chosen = front[four.chosen]
    for a in front:
        for b in front:
            if a is not b and b is not chosen:
                assert not all(x <= y for x, y in zip(a, b, strict=True))


def test_measures_are_those_of_the_networks(four: OptimizationResult) -> None:
    for i, found in enumerate(four.pareto_front):
        network = four.select(i)
        profile = gos_fx.profile(network, "arm_a53", example_inputs=X)
        assert found.measures.memory_bytes == profile.memory_bytes
        assert found.measures.energy is not None
        assert found.measures.energy.source == "modelled"
    assert four.baseline.energy is not None
    assert four.baseline.energy.joules > 0


def test_same_seed_same_result(four: OptimizationResult) -> None:
    again = optimized(objectives=ALL)
    assert again.to_json() == four.to_json()


def test_saved_and_loaded(four: OptimizationResult, tmp_path: Path) -> None:
    four.save(tmp_path)
    loaded: Any = gos_fx.load(tmp_path)
    assert loaded.gos.to_json() == four.to_json()
    assert loaded.gos.baseline == four.baseline


def test_the_default_has_them_as_measures_only() -> None:
    found = optimized(iterations=1)
    assert found.facts["objectives"] == ["latency", "parameters"]
    assert found.baseline.energy is not None and found.baseline.memory_bytes


def test_a_limit_of_energy() -> None:
    with pytest.raises(InfeasibleConstraints, match="energy <= 1e-09"):
        optimized(constraints={"energy": 1e-9}, iterations=0)
    assert optimized(constraints={"energy": 10.0}).replacements == ()  # held already


def test_energy_of_a_target_without_constants() -> None:
    with pytest.raises(BadOption, match="energy that host takes"):
        gos_fx.optimize(Net().eval(), "host", example_inputs=X, objectives=ALL)
