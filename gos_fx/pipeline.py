"""The whole way on one screen: trace, fold, then select, evolve, replace, repeat."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from gos_fx.errors import InfeasibleConstraints
from gos_fx.evolve.engine import SearchLog, evolve
from gos_fx.evolve.evaluator import Evaluator
from gos_fx.evolve.fitness import Evaluation, Individual
from gos_fx.evolve.selection import select
from gos_fx.evolve.task import Score, Task
from gos_fx.latency.choice import Chosen, SourceLost
from gos_fx.latency.profile import Profile
from gos_fx.measuring import Measuring
from gos_fx.options import Options
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.fold_batch_norm import fold_batch_norm
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.trace import ExampleInputs, trace
from gos_fx.points import composed, front_of, judge, replacement_of, winner
from gos_fx.result import Measures, OptimizationResult, Point, Replacement
from gos_fx.targets.target import Target

logger = logging.getLogger("gos_fx")

Progress = Callable[[dict[str, Any]], None]


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
        latencies: Chosen,
        wanted: Callable[[Operator], bool] = lambda operator: True,
        executor: Executor | None = None,
        progress: Progress | None = None,
        facts: Mapping[str, Any] | None = None,
        started: float | None = None,
    ) -> None:
        self.started = time.monotonic() if started is None else started
        self.task, self.target, self.options = task, target, options
        self.latencies = latencies
        self.measuring = Measuring(latencies, target, example_inputs)
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
        self.untried = {
            op.name: op.refusal for op in self._operators() if op.name not in self.tried
        }
        self.replacements: list[Replacement] = []
        self.history: list[dict[str, Any]] = []
        self.logbook: list[dict[str, Any]] = []
        self.profile = self.measuring.first_profile(self.network)
        self.baseline = self._measures(self.first_score)
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
        front = front_of(self.points, last, self.options.objectives)
        chosen = front.index(last)
        if missing := self._violated(front[chosen].measures):
            best = front[chosen].measures
            raise InfeasibleConstraints(
                f"nothing found meets {', '.join(missing)}",
                where="constraints",
                do=f"the best has {best.latency} and {best.parameters} parameters; "
                "raise epsilon, iterations or max_replacements",
            )
        self.facts |= self.latencies.facts()
        self.facts["latency_confirmed"] = (
            self.baseline.confirmed and last.measures.confirmed
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

    def _measures(self, score: Score) -> Measures:
        """Of the network as it is now, whose profile is known."""
        return self.measuring.measures(self.network, self.profile, score.value)

    def _restate(self) -> None:
        """All numbers by the model, after the source that measured was lost."""
        everyone = [r for point in self.points for r in point.replacements]
        new = self.measuring.renew([*everyone, *self.replacements])
        self.replacements = [new[id(r)] for r in self.replacements]
        self.points = [
            self.measuring.modelled(
                self.original,
                replace(p, replacements=tuple(new[id(r)] for r in p.replacements)),
            )
            for p in self.points
        ]
        self.baseline = self.points[0].measures
        self.profile = self.measuring.profile(self.network)

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
        return [
            f"{k} <= {limits[k]:g}" for k in limits if measures.value(k) > limits[k]
        ]

    def _select(self) -> tuple[Operator, ...]:
        profile = self.profile
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
            objectives=options.objectives,
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
        judged, before, unmeasured = self._judge(front, evaluator)
        best = winner(judged, before, self._deployable(self.profile))
        if best is not None:
            best.evaluation = evaluator.polish(best.graph, best.evaluation)
        self._note(names, judged, log, best, unmeasured)
        last = self._last().measures
        share = self._share(group)
        for individual in judged:
            if individual.graph == evaluator.original or individual is best:
                continue
            replacement = replacement_of(evaluator, individual, before)
            point = self._point(last, share, evaluator, individual, before, replacement)
            self.points.append(point)
        if best is not None:
            self._replace(group, replacement_of(evaluator, best, before))

    def _judge(
        self, front: list[Individual], evaluator: Evaluator
    ) -> tuple[list[Individual], Evaluation, dict[str, str]]:
        try:
            return judge(front, evaluator, self.latencies, self.options.finalists)
        except SourceLost:
            self._restate()
            return judge(front, evaluator, self.latencies, self.options.finalists)

    def _share(self, group: tuple[Operator, ...]) -> float:
        """Part of the network's latency that a group takes."""
        return sum(self.profile.share(self.profile.row(op.name)) for op in group)

    def _point(
        self,
        last: Measures,
        share: float,
        evaluator: Evaluator,
        individual: Individual,
        before: Evaluation,
        replacement: Replacement,
    ) -> Point:
        found, graph = individual.evaluation, individual.graph
        operators = evaluator.costs.placed(graph)
        if self.latencies.measured is not None:
            latency = composed(last.latency, share, before, found)
        else:
            model = self.latencies.analytical
            latency = model.network(self.network, (), operators).total
        parameters = last.parameters - before.parameters + found.parameters
        measures = Measures(
            latency,
            parameters,
            found.metric,
            evaluator.costs.memory(graph),
            self.measuring.energy(self.network, operators, latency),
        )
        return Point(measures, (*self.replacements, replacement))

    def _replace(self, group: tuple[Operator, ...], replacement: Replacement) -> None:
        modules = [
            emit_operator(replacement.after, bindings, weights)
            for bindings, weights in zip(
                replacement.bindings, replacement.weights, strict=True
            )
        ]
        pairs = list(zip(group, modules, strict=True))
        network = replace_operators(self.network, pairs)
        network.requires_grad_(False)
        score = self.task.score(network)
        try:
            profile = self.measuring.profile(network)
        except SourceLost:
            self._restate()
            replacement = self.measuring.renew([replacement])[id(replacement)]
            profile = self.measuring.profile(network)
        self.network, self.score, self.profile = network, score, profile
        self.replacements.append(replacement)
        self.points.append(Point(self._measures(score), tuple(self.replacements)))

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
        best: Individual | None,
        unmeasured: dict[str, str],
    ) -> None:
        self.history.append(
            {
                "operators": names,
                "replaced": best is not None,
                "front": len(front),
                "unmeasured": dict(sorted(unmeasured.items())),
                "proposed": dict(sorted(log.proposed.items())),
                "accepted": dict(sorted(log.accepted.items())),
                "refusals": dict(log.refusals.most_common(20)),
            }
        )


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
