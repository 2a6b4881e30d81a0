"""The whole way on one screen: trace, fold, then select, evolve, replace, repeat."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from gos_fx.errors import InfeasibleConstraints
from gos_fx.evolve.engine import SearchLog, SearchOptions, evolve
from gos_fx.evolve.evaluator import Evaluator, Gates, Limits
from gos_fx.evolve.fitness import Individual
from gos_fx.evolve.selection import select
from gos_fx.evolve.task import Score, Task
from gos_fx.evolve.training import FineTuning, LocalFit
from gos_fx.ir.verifier import Bounds
from gos_fx.latency.analytical import AnalyticalSource
from gos_fx.latency.model import uncertainty
from gos_fx.latency.profile import Profile, profile_network
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.fold_batch_norm import fold_batch_norm
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.trace import ExampleInputs, trace
from gos_fx.result import Measures, OptimizationResult, Point, Replacement
from gos_fx.targets.target import Target

logger = logging.getLogger("gos_fx")

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Options:
    """Everything that steers an optimization, apart from model, data and target.

    ``worth``: share of the model's latency below which a group of operators is not
    searched once the model is deployable; the whole gain would be within the error.
    """

    epsilon: float = 0.01
    constraints: Mapping[str, float] = field(default_factory=dict)
    max_replacements: int = 10
    similar: int = 4
    worth: float = 0.05
    time_budget: float | None = None
    threads: int | None = None
    seed: int = 0
    search: SearchOptions = SearchOptions()
    bounds: Bounds = Bounds()
    tuning: FineTuning = FineTuning()
    fit: LocalFit = LocalFit()
    polishing: LocalFit = LocalFit(steps=150, rate=1e-3)
    gates: Gates = Gates()
    limits: Limits = Limits()


def prepare(model: nn.Module, example_inputs: ExampleInputs) -> fx.GraphModule:
    """Trace and rewrite exactly; the result computes what the model does."""
    traced = trace(model, example_inputs)
    fold_batch_norm(traced)
    return traced


class Optimization:
    """One run of the paper's two alternating steps over a network."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: ExampleInputs,
        task: Task,
        target: Target,
        options: Options,
        *,
        wanted: Callable[[Operator], bool] = lambda operator: True,
        executor: Executor | None = None,
        progress: Progress | None = None,
        facts: Mapping[str, Any] | None = None,
        started: float | None = None,
    ) -> None:
        self.started = time.monotonic() if started is None else started
        self.task, self.target, self.options = task, target, options
        self.source = AnalyticalSource(target, options.threads)
        self.executor, self.progress = executor, progress
        self.facts = dict(facts or {})
        self.original = prepare(model, example_inputs)
        self.trainable = tuple(
            name for name, p in self.original.named_parameters() if p.requires_grad
        )
        self.network = self.original
        self.network.requires_grad_(False)
        self.first_score = self.score = task.score(model)
        self.tried = {op.name for op in self._operators() if not wanted(op)}
        self.names = tuple(op.name for op in self._operators())
        self.untried = [name for name in self.names if name not in self.tried]
        self.replacements: list[Replacement] = []
        self.history: list[dict[str, Any]] = []
        self.logbook: list[dict[str, Any]] = []
        self.baseline = self._measure(self.first_score)
        self.points = [Point(self.baseline, ())]

    def run(self) -> OptimizationResult:
        """Replace until the constraints hold or a budget is spent.

        Ctrl-C ends the search and keeps what was found.

        Raises:
            InfeasibleConstraints: nothing found meets the constraints.
        """
        try:
            while not self._finished():
                group = self._select()
                if not group:
                    break
                self._adapt(group)
        except KeyboardInterrupt:
            logger.warning("interrupted: the best network so far is returned")
            self.facts["interrupted"] = True
        return self.result()

    def result(self) -> OptimizationResult:
        """The front of everything that was found feasible."""
        last = self._last()
        front = _front(self.points, last)
        chosen = front.index(last)
        if missing := self._violated(front[chosen].measures):
            best = front[chosen].measures
            raise InfeasibleConstraints(
                f"nothing found meets {', '.join(missing)}",
                where="constraints",
                do=f"the best has {best.latency} and {best.parameters} parameters; "
                "raise epsilon, iterations or max_replacements",
            )
        return OptimizationResult(
            self.original,
            self.baseline,
            front,
            chosen,
            self.facts,
            self.logbook,
            self.history,
            self.trainable,
        )

    @property
    def _deadline(self) -> float | None:
        budget = self.options.time_budget
        return None if budget is None else self.started + budget

    def _operators(self) -> tuple[Operator, ...]:
        return find_operators(self.network)

    def _profile(self) -> Profile:
        return profile_network(self.network, self.source, ())

    def _measure(self, score: Score) -> Measures:
        parameters = sum(p.numel() for p in self.network.parameters())
        return Measures(self._profile().latency, parameters, score.value)

    def _replaced(self) -> int:
        return sum(len(r.operators) for r in self.replacements)

    def _finished(self) -> bool:
        deadline = self._deadline
        if deadline is not None and time.monotonic() >= deadline:
            return True
        if self._replaced() >= self.options.max_replacements:
            return True
        constraints = self.options.constraints
        return bool(constraints) and not self._violated(self._last().measures)

    def _last(self) -> Point:
        final = tuple(self.replacements)
        return next(p for p in reversed(self.points) if p.replacements == final)

    def _violated(self, measures: Measures) -> list[str]:
        limits = self.options.constraints
        have = {
            "latency": measures.latency.seconds,
            "parameters": measures.parameters,
            "memory": self._profile().memory_bytes,
        }
        return [f"{k} <= {limits[k]:g}" for k in limits if have[k] > limits[k]]

    def _select(self) -> tuple[Operator, ...]:
        profile = self._profile()
        deployable = self._deployable(profile)
        room = self.options.max_replacements - self._replaced()
        group = select(
            self._operators(),
            profile,
            deployable=deployable,
            tried=self.tried,
            similar=min(self.options.similar, room),
        )
        taken = sum(profile.row(op.name).latency.seconds for op in group)
        if deployable and taken < self.options.worth * profile.latency.seconds:
            return ()
        return group

    def _deployable(self, profile: Profile) -> bool:
        limit = self.options.constraints.get("memory", self.target.model_memory_bytes)
        return profile.memory_bytes <= min(limit, self.target.model_memory_bytes)

    def _floor(self) -> float:
        """The value to exceed: a replacement may use half of what epsilon leaves."""
        lost = -self.task.gain(self.score.value, self.first_score.value)
        allowed = (self.options.epsilon - lost) / 2
        sign = 1.0 if self.task.mode == "max" else -1.0
        return self.score.value - sign * allowed

    def _adapt(self, group: tuple[Operator, ...]) -> None:
        options, round_ = self.options, len(self.history)
        self.tried.update(op.name for op in group)
        evaluator = Evaluator(
            self.network,
            group,
            self.task,
            self.target,
            threads=options.threads,
            current=self.score,
            floor=self._floor(),
            seed=options.seed,
            bounds=options.bounds,
            tuning=options.tuning,
            fit=options.fit,
            polishing=options.polishing,
            gates=options.gates,
            limits=options.limits,
        )
        names = [op.name for op in group]
        front, log = evolve(
            evaluator,
            options.search,
            random.Random(f"{options.seed}:{round_}:{names[0]}"),
            deadline=self._deadline,
            executor=self.executor,
            progress=lambda record: self._report(round_, names, record),
        )
        winner = _winner(front, evaluator, self._deployable(self._profile()))
        if winner is not None:
            winner.evaluation = evaluator.polish(winner.graph, winner.evaluation)
        self._note(names, front, log, winner)
        before = self._last().measures
        for individual in front:
            replacement = _replacement(group, evaluator, individual)
            if individual.graph == evaluator.original:
                continue
            point = self._point(before, evaluator, individual, replacement)
            self.points.append(point)
            if individual is winner:
                self._replace(group, replacement, point)

    def _point(
        self,
        before: Measures,
        evaluator: Evaluator,
        individual: Individual,
        replacement: Replacement,
    ) -> Point:
        found = individual.evaluation
        assert found.latency is not None
        rest = before.latency.seconds - evaluator.before.seconds
        share = (rest + found.latency.seconds) / before.latency.seconds
        latency = before.latency.scaled(share)
        parameters = before.parameters - evaluator.parameters_before + found.parameters
        measures = Measures(latency, parameters, found.metric)
        return Point(measures, (*self.replacements, replacement))

    def _replace(
        self, group: tuple[Operator, ...], replacement: Replacement, point: Point
    ) -> None:
        modules = [
            emit_operator(replacement.after, bindings, weights)
            for bindings, weights in zip(
                replacement.bindings, replacement.weights, strict=True
            )
        ]
        pairs = list(zip(group, modules, strict=True))
        self.network = replace_operators(self.network, pairs)
        self.network.requires_grad_(False)
        self.replacements.append(replacement)
        self.score = self.task.score(self.network)
        self.points.remove(point)
        measured = Measures(
            self._profile().latency, point.measures.parameters, self.score.value
        )
        self.points.append(Point(measured, tuple(self.replacements)))

    def _report(self, round_: int, names: list[str], record: dict[str, Any]) -> None:
        entry = {"round": round_, "operators": names, **record}
        self.logbook.append(entry)
        if self.progress is not None:
            self.progress(entry)

    def _note(
        self,
        names: list[str],
        front: list[Individual],
        log: SearchLog,
        winner: Individual | None,
    ) -> None:
        self.history.append(
            {
                "operators": names,
                "replaced": winner is not None,
                "front": len(front),
                "proposed": dict(sorted(log.proposed.items())),
                "accepted": dict(sorted(log.accepted.items())),
                "refusals": dict(log.refusals.most_common(20)),
            }
        )


def _winner(
    front: list[Individual], evaluator: Evaluator, deployable: bool
) -> Individual | None:
    """The fastest point (the smallest while not deployable) that gains more than its
    error; None keeps the operator."""
    gaining = []
    for individual in front:
        found = individual.evaluation
        assert found.latency is not None
        gain = evaluator.before.seconds - found.latency.seconds
        if deployable and gain > uncertainty(evaluator.before, found.latency):
            gaining.append(individual)
        if not deployable and found.parameters < evaluator.parameters_before:
            gaining.append(individual)
    if not gaining:
        return None
    key = (0, 1) if deployable else (1, 0)
    return min(gaining, key=lambda i: tuple(i.fitness.values[k] for k in key))


def _replacement(
    group: tuple[Operator, ...], evaluator: Evaluator, individual: Individual
) -> Replacement:
    found = individual.evaluation
    assert found.latency is not None
    return Replacement(
        operators=tuple(op.name for op in group),
        modules=tuple(op.modules for op in group),
        before=evaluator.original,
        after=individual.graph,
        bindings=tuple(dict(op.bindings) for op in group),
        weights=found.weights,
        latency_before=evaluator.before,
        latency_after=found.latency,
    )


def _front(points: list[Point], chosen: Point) -> tuple[Point, ...]:
    """What none beats in both latency and parameters, the fastest first.

    The chosen point stays in it, also where a gain within the error beats it.
    """

    def key(point: Point) -> tuple[float, int]:
        return point.measures.latency.seconds, point.measures.parameters

    kept: list[Point] = []
    smallest = float("inf")
    for point in sorted(points, key=key):
        if point is chosen or key(point)[1] < smallest:
            kept.append(point)
            smallest = min(smallest, key(point)[1])
    return tuple(kept)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import importlib.metadata as metadata

    names = ("gos_fx", "torch", "apache-tvm", "apache-tvm-ffi", "deap", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["torch"] = torch.__version__
    return found
