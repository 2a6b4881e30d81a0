"""The evolutionary search for one group of operators: DEAP's NSGA-II."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from deap import base, tools

from gos_fx.errors import BadOption
from gos_fx.evolve.crossover import cross
from gos_fx.evolve.evaluator import Evaluator
from gos_fx.evolve.fitness import Evaluation, Individual, dominates
from gos_fx.evolve.mutations import mutate
from gos_fx.ir.graph import Graph
from gos_fx.ir.rewriter import Refusal

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class SearchOptions:
    """Section 4.1 of the paper: 50 iterations, mutation 0.8, crossover 0.6.

    ``population`` is ours; NSGA-II's tournament needs a multiple of four.
    """

    iterations: int = 50
    population: int = 12
    mutation: float = 0.8
    crossover: float = 0.6

    def __post_init__(self) -> None:
        if self.population < 4 or self.population % 4:
            raise BadOption(
                f"population={self.population}",
                where="population",
                do="use a positive multiple of four: the tournament goes by fours",
            )
        if self.iterations < 0:
            raise BadOption(
                f"iterations={self.iterations} is negative",
                where="iterations",
                do="use 0 or more generations for each replacement",
            )


@dataclass
class SearchLog:
    """What a search tried. ``edits`` counts proposals and acceptances by edit."""

    logbook: list[dict[str, Any]] = field(default_factory=list)
    proposed: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)


def evolve(
    evaluator: Evaluator,
    options: SearchOptions,
    rng: random.Random,
    *,
    deadline: float | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[list[Individual], SearchLog]:
    """The feasible, non-dominated templates, the original among the starters.

    A generation is complete or is not counted; ``deadline`` (``time.monotonic``) is
    looked at between generations.
    """
    search = _Search(evaluator, options, rng, executor)
    front = tools.ParetoFront(similar=lambda a, b: a.graph == b.graph)
    population = search.select([search.original()])
    front.update(population)
    for generation in range(options.iterations):
        if deadline is not None and time.monotonic() >= deadline:
            break
        offspring = search.offspring(population)
        population = search.select(population + offspring)
        front.update(offspring)
        record = search.record(generation, population, len(offspring))
        if progress is not None:
            progress(record)
    return list(front), search.log


class _Search:
    def __init__(
        self,
        evaluator: Evaluator,
        options: SearchOptions,
        rng: random.Random,
        executor: Executor | None,
    ) -> None:
        self.evaluator, self.options, self.rng = evaluator, options, rng
        self.log = SearchLog()
        self.seen: dict[str, Evaluation] = {}
        self.learned: dict[str, Evaluation] = {}
        self.toolbox = base.Toolbox()
        self.toolbox.register("map", map if executor is None else executor.map)
        self.toolbox.register("select", tools.selNSGA2)
        self.toolbox.register("tournament", tools.selTournamentDCD)

    def original(self) -> Individual:
        graph = self.evaluator.original
        evaluation = replace(
            self.evaluator.before,
            metric=self.evaluator.current.value,
            weights=tuple(dict(op.weights) for op in self.evaluator.operators),
        )
        self.seen[graph.digest] = evaluation
        return self._individual(graph, evaluation)

    def select(self, individuals: list[Individual]) -> list[Individual]:
        """The best by rank and crowding distance; equal objectives only once."""
        unique: dict[tuple[float, ...], Individual] = {}
        for individual in individuals:
            unique.setdefault(individual.fitness.values, individual)
        size = min(self.options.population, len(unique))
        chosen: list[Individual] = self.toolbox.select(list(unique.values()), size)
        return chosen

    def offspring(self, population: list[Individual]) -> list[Individual]:
        """Feasible children: one brood, refilled once if half of it was refused.

        Cheap tests run first, here; what is left goes to the workers together.
        """
        size = self.options.population
        found: list[Individual] = []
        for _ in range(2):
            brood = self._brood(population, size)
            found += self._evaluate(brood)
            if len(found) >= size // 2:
                break
        return found

    def _brood(self, population: list[Individual], size: int) -> dict[Graph, str]:
        parents = self._parents(population)
        brood: dict[Graph, str] = {}
        for _ in range(20 * size):
            if len(brood) >= size:
                break
            edits, child = self._child(next(parents), next(parents))
            name = "+".join(edits)
            self.log.proposed.update(edits)
            if isinstance(child, Refusal):
                self.log.refusals[child.reason] += 1
                continue
            if child.digest in self.seen or child in brood:
                continue
            screened = self.evaluator.screen(child)
            if not screened.feasible:
                self.seen[child.digest] = screened
            elif self._beaten(screened, population):
                screened = replace(screened, reason="a feasible candidate dominates it")
            if not screened.feasible:
                self.log.refusals[_kind(screened.reason)] += 1
                continue
            brood[child] = name
        return brood

    def _child(self, a: Graph, b: Graph) -> tuple[list[str], Graph | Refusal]:
        edits: list[str] = []
        crossed = a
        if self.rng.random() < self.options.crossover and a != b:
            edits.append("crossover")
            child = cross(a, b, self.rng)
            if isinstance(child, Refusal):
                return edits, child
            crossed = child
        if self.rng.random() < self.options.mutation or not edits:
            name, mutated = mutate(crossed, self.rng)
            return [*edits, name], mutated
        return edits, crossed

    def _evaluate(self, brood: dict[Graph, str]) -> list[Individual]:
        new: dict[str, Graph] = {}
        for graph in brood:
            plain = graph.without_schedule()
            if plain.digest not in self.learned:
                new.setdefault(plain.digest, graph)
        results = list(self.toolbox.map(self.evaluator.evaluate, list(new.values())))
        self.learned.update(zip(new, results, strict=True))
        found = []
        for graph, edits in brood.items():
            known = self.learned[graph.without_schedule().digest]
            screened = self.evaluator.screen(graph)
            evaluation = replace(
                screened,
                reason=known.reason,
                metric=known.metric,
                weights=known.weights,
                tuned=known.tuned,
            )
            self.seen[graph.digest] = replace(evaluation, weights=())
            if evaluation.feasible:
                self.log.accepted.update(edits.split("+"))
                found.append(self._individual(graph, evaluation))
            else:
                self.log.refusals[_kind(evaluation.reason)] += 1
        return found

    def _parents(self, population: list[Individual]) -> Iterator[Graph]:
        while True:
            size = len(population) // 4 * 4
            if size:
                with _deap_random(self.rng):
                    chosen = self.toolbox.tournament(population[:size], size)
            else:
                chosen = self.rng.sample(population, len(population))
            for individual in chosen:
                yield individual.graph

    def _individual(self, graph: Graph, evaluation: Evaluation) -> Individual:
        objectives = self.evaluator.objectives
        return Individual(graph, evaluation, self._before, objectives)

    @property
    def _before(self) -> float:
        latency = self.evaluator.before.latency
        assert latency is not None
        return latency.seconds

    def _beaten(self, screened: Evaluation, population: list[Individual]) -> bool:
        """Whether something known is at least as good in all that is minimised: then
        judging the accuracy, the costly test, could not bring it into the front."""
        objectives = self.evaluator.objectives
        return any(dominates(i.evaluation, screened, objectives) for i in population)

    def record(
        self, generation: int, population: list[Individual], accepted: int
    ) -> dict[str, Any]:
        best = min(population, key=lambda i: i.fitness.values)
        assert best.evaluation.latency is not None
        entry = {
            "generation": generation,
            "population": len(population),
            "accepted": accepted,
            "evaluated": len(self.learned),
            "best_latency_s": best.evaluation.latency.seconds,
            "best_parameters": best.evaluation.parameters,
            "original_latency_s": self._before,
        }
        self.log.logbook.append(entry)
        return entry


def _kind(reason: str) -> str:
    """A reason without its numbers, for counting."""
    return "".join("#" if c.isdigit() else c for c in reason)


@contextmanager
def _deap_random(rng: random.Random) -> Iterator[None]:
    """DEAP draws from the ``random`` module: lend it our state, and give it back."""
    outside = random.getstate()
    random.setstate(rng.getstate())
    try:
        yield
    finally:
        rng.setstate(random.getstate())
        random.setstate(outside)
