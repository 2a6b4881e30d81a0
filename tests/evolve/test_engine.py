"""The search: deterministic, the same with workers, and what it counts."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from gos_fx.errors import BadOption
from gos_fx.evolve.engine import SearchOptions, evolve
from gos_fx.evolve.evaluator import Evaluator
from gos_fx.evolve.fitness import Evaluation, Fitness, Individual
from gos_fx.ir.graph import Graph
from gos_fx.latency.model import Estimate

Make = Callable[..., Evaluator]
OPTIONS = SearchOptions(iterations=3, population=4)


def search(evaluator: Evaluator, seed: int = 0, **options: Any) -> Any:
    settings = options.pop("settings", OPTIONS)
    return evolve(evaluator, settings, random.Random(seed), **options)


def summary(front: list[Individual]) -> list[Any]:
    return [
        (i.graph.text, i.fitness.values, i.evaluation.metric, i.evaluation.reason)
        for i in front
    ]


def weights(front: list[Individual]) -> list[torch.Tensor]:
    return [
        t for i in front for w in i.evaluation.weights for _, t in sorted(w.items())
    ]


def test_the_seed_decides(make_evaluator: Make) -> None:
    evaluator = make_evaluator()
    random.seed(3)
    one, log = search(evaluator)
    random.seed(4)
    world = random.getstate()
    again, _ = search(make_evaluator())
    assert summary(one) == summary(again) and len(one) >= 1
    assert all(
        torch.equal(a, b) for a, b in zip(weights(one), weights(again), strict=True)
    )
    assert random.getstate() == world  # what the caller draws does not change
    other, _ = search(evaluator, seed=1)
    assert summary(other) != summary(one)
    assert len(log.logbook) == 3
    assert set(log.accepted) <= set(log.proposed) and sum(log.proposed.values()) > 10


def test_workers_change_nothing(make_evaluator: Make) -> None:
    alone, log = search(make_evaluator())
    with ThreadPoolExecutor(2) as executor:
        shared, other = search(make_evaluator(), executor=executor)
    assert summary(alone) == summary(shared)
    assert log.proposed == other.proposed and log.refusals == other.refusals
    assert all(
        torch.equal(a, b) for a, b in zip(weights(alone), weights(shared), strict=True)
    )


def test_the_front_is_feasible_and_not_dominated(make_evaluator: Make) -> None:
    evaluator = make_evaluator()
    front, _ = search(evaluator, seed=2)
    points = [i.fitness.values for i in front]
    for i, a in enumerate(points):
        assert front[i].evaluation.feasible
        assert front[i].evaluation.metric > evaluator.floor
        others = points[:i] + points[i + 1 :]
        assert not any(b[0] <= a[0] and b[1] <= a[1] and b != a for b in others)


def test_progress_and_the_logbook(make_evaluator: Make) -> None:
    seen: list[dict[str, Any]] = []
    _, log = search(make_evaluator(), progress=seen.append)
    assert seen == log.logbook
    assert [entry["generation"] for entry in seen] == [0, 1, 2]
    best = [entry["best_latency_s"] for entry in seen]
    assert best == sorted(best, reverse=True)
    assert best[-1] <= seen[0]["original_latency_s"]


def test_a_deadline_that_has_passed(make_evaluator: Make) -> None:
    evaluator = make_evaluator()
    front, log = search(evaluator, deadline=time.monotonic())
    assert [i.graph for i in front] == [evaluator.original] and log.logbook == []


def test_no_iterations(make_evaluator: Make) -> None:
    evaluator = make_evaluator()
    settings = SearchOptions(iterations=0, population=4)
    front, _ = search(evaluator, settings=settings)
    assert [i.graph for i in front] == [evaluator.original]


@pytest.mark.parametrize("population", [0, 2, 6, -4])
def test_populations_go_by_fours(population: int) -> None:
    with pytest.raises(BadOption, match=f"population={population}") as caught:
        SearchOptions(population=population)
    assert "multiple of four" in caught.value.do


def test_negative_iterations() -> None:
    with pytest.raises(BadOption, match="iterations=-1") as caught:
        SearchOptions(iterations=-1)
    assert caught.value.do


def test_fitness_is_the_difference_of_latency_and_the_parameters(conv: Graph) -> None:
    latency = Estimate(0.004, 0.0, "analytical", "arm_a53")
    individual = Individual(conv, Evaluation("", latency, 120), before=0.005)
    assert individual.fitness.values == pytest.approx((-0.001, 120.0))
    small, fast = Fitness((0.0, 1.0)), Fitness((-1.0, 2.0))
    both = Fitness((-1.0, 1.0))
    assert both.dominates(small) and both.dominates(fast)
    assert not small.dominates(fast) and not fast.dominates(small)
