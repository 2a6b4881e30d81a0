"""The gate: cheap tests first, then projection, local fit, fine-tuning, the metric."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from gos_fx.errors import GosError, VerifyError
from gos_fx.evolve.costs import Costs
from gos_fx.evolve.fitness import (
    DEFAULT_OBJECTIVES,
    Evaluation,
    Weights,
    dominates,
)
from gos_fx.evolve.statistics import paired_drop
from gos_fx.evolve.task import Batch, Score, Task
from gos_fx.evolve.training import FineTuning, LocalFit, fine_tune, fit_locally
from gos_fx.ir.graph import Graph
from gos_fx.ir.projection import project
from gos_fx.ir.replacement import check_replacement
from gos_fx.ir.verifier import Bounds
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.operators import Operator
from gos_fx.passes.source import SOURCE
from gos_fx.passes.split import split_before
from gos_fx.targets.target import Target


@dataclass(frozen=True)
class Gates:
    """When a candidate is not worth the next, costlier test.

    ``local_error``: largest part of the variance of the operator's outputs that it may
    miss after the local fit. ``recoverable``: largest loss of the metric, in units of
    what is allowed, that fine-tuning is believed to win back. ``subset``: samples of
    the first look at the metric. ``prudence``: standard errors that the loss must stay
    below what is allowed (Breiman's one-standard-error rule): the fastest of many
    candidates is the one that chance favoured, and loses more on unseen data. Without
    one value for each sample it does not apply. The values are choices of ours, not of
    the paper.
    """

    local_error: float = 0.3
    recoverable: float = 4.0
    prudence: float = 1.0
    subset: int = 256


@dataclass(frozen=True)
class Limits:
    """Samples and bytes kept in memory for local fit, fine-tuning and the metric."""

    fit_samples: int = 128
    polish_samples: int = 1024
    tune_samples: int = 4096
    cache_bytes: int = 1 << 30


class Evaluator:
    """Judges templates for one group of similar operators of one network.

    ``network`` is frozen; ``floor`` is the value of the metric that a candidate must
    exceed, ``current`` the score of ``network`` itself. ``evaluate`` depends on its
    argument alone: same template, same result, in any order and in any worker.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        operators: Sequence[Operator],
        task: Task,
        target: Target,
        *,
        threads: int | None,
        current: Score,
        floor: float,
        seed: int,
        bounds: Bounds,
        tuning: FineTuning,
        fit: LocalFit,
        polishing: LocalFit,
        gates: Gates,
        limits: Limits,
        objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    ) -> None:
        self.operators = tuple(operators)
        template = operators[0].template
        assert template is not None
        self.original = template
        self.task, self.objectives = task, tuple(objectives)
        self.costs = Costs(network, operators, target, threads, objectives)
        self.current, self.floor, self.seed = current, floor, seed
        self.bounds, self.tuning, self.fit = bounds, tuning, fit
        self.polishing = polishing
        self.gates, self.limits = gates, limits
        parameters = sum(op.parameters for op in operators)
        self.before = replace(self.costs.of(template), parameters=parameters)
        first = self._first_node(network)
        split = split_before(network, first)
        self._suffix = split.suffix
        self._load(split.prefix)

    def screen(self, graph: Graph) -> Evaluation:
        """The tests that cost nothing: form, bounds, fit to the sites, roofline."""
        try:
            check_replacement(graph, self.original, self.bounds)
            if graph.result != self.original.result:
                return Evaluation(f"it gives {graph.result}")
            found = self.costs.of(graph)
        except VerifyError as error:
            return Evaluation(error.what)
        if dominates(self.before, found, self.objectives):
            return replace(found, reason="it is dominated by the original")
        return found

    def evaluate(self, graph: Graph) -> Evaluation:
        """All tests, in the order of their cost. Schedules do not change the outcome:
        the caller may reuse it for the same graph under another schedule."""
        found = self.screen(graph)
        if not found.feasible:
            return found
        plain = graph.without_schedule()
        if plain == self.original.without_schedule():
            weights = tuple(dict(op.weights) for op in self.operators)
            return replace(found, metric=self.current.value, weights=weights)
        try:
            return self._learn(plain, found)
        except GosError as error:
            return replace(found, reason=str(error))

    def _learn(self, graph: Graph, found: Evaluation) -> Evaluation:
        seed = _seed(graph, self.seed)
        modules = [
            emit_operator(graph, op.bindings, self._project(graph, op))
            for op in self.operators
        ]
        for module, (x, y) in zip(modules, self._examples, strict=True):
            if not bool(torch.isfinite(module(x[:2])).all()):
                return replace(found, reason="its outputs are not finite")
            limit = self.gates.local_error
            error = fit_locally(module, x, y, self.fit, seed, 2 * limit)
            if not error <= limit:
                return replace(
                    found, reason=f"it misses {error:.0%} of the operator's variance"
                )
        network = self._with(modules)
        if self._first_loss(network) > self.gates.recoverable * self._allowed:
            return replace(found, reason="its loss is beyond recovery")
        tuned = False
        score = self._score(network)
        if not self._passes(score):
            tuned = self._tune(network, modules, seed)
            score = self._score(network) if tuned else score
        found = replace(found, metric=score.value, tuned=tuned)
        if not self._passes(score):
            return replace(found, reason=f"its metric is {score.value:.4f}")
        weights = tuple(_state(module) for module in modules)
        return replace(found, weights=weights)

    def polish(self, graph: Graph, found: Evaluation) -> Evaluation:
        """A winner fitted longer, on more samples, then fine-tuned: what all candidates
        could not be given. Kept when the metric is not worse for it."""
        plain = graph.without_schedule()
        if plain == self.original.without_schedule():
            return found
        modules = [
            emit_operator(plain, op.bindings, weights)
            for op, weights in zip(self.operators, found.weights, strict=True)
        ]
        seed = _seed(plain, self.seed)
        examples = self._local_examples(self._learned, self.limits.polish_samples)
        for module, (x, y) in zip(modules, examples, strict=True):
            fit_locally(module, x, y, self.polishing, seed)
        network = self._with(modules)
        tuned = self._tune(network, modules, seed)
        score = self._score(network)
        better = self.task.gain(score.value, found.metric) >= 0
        if not (better and self._passes(score)):
            return found
        weights = tuple(_state(module) for module in modules)
        return replace(found, metric=score.value, weights=weights, tuned=tuned)

    def _passes(self, score: Score) -> bool:
        """Whether the metric, less what chance may have added, is above the floor."""
        paired = paired_drop(self.current, score, mode=self.task.mode)
        error = 0.0 if paired is None else paired[1]
        sign = 1.0 if self.task.mode == "max" else -1.0
        prudent = score.value - sign * self.gates.prudence * error
        return self.task.gain(prudent, self.floor) > 0

    def _tune(
        self, network: nn.Module, modules: Sequence[nn.Module], seed: int
    ) -> bool:
        """False where there is nothing to learn from, or learning leads nowhere."""
        if self.task.train is None or self.tuning.epochs == 0:
            return False
        loss = self.task.loss
        return fine_tune(
            network,
            modules,
            self._train,
            loss,
            self.tuning,
            seed,
            lambda: self._first_loss(network) <= 1.5 * self._allowed,
        )

    @property
    def _allowed(self) -> float:
        """Loss of the metric that a candidate may cost; a little where nothing may."""
        return max(self.task.gain(self.current.value, self.floor), 1e-3)

    def _first_loss(self, network: nn.Module) -> float:
        """Loss of the metric on the first samples."""
        first = self.task.score_batches(network, self._valid[: self._subset])
        return -self.task.gain(first.value, self._current_subset.value)

    def _project(self, graph: Graph, operator: Operator) -> Mapping[str, Tensor]:
        projected = {}
        for value in graph.weights:
            source = value.init if value.init is not None else value.name
            tensor = project(source, operator.weights, operator.bindings)
            if not bool(torch.isfinite(tensor).all()):
                raise VerifyError(f"the projection of {value.name} is not finite")
            projected[value.name] = tensor
        return projected

    def _with(self, modules: Sequence[nn.Module]) -> fx.GraphModule:
        pairs = list(zip(self.operators, modules, strict=True))
        return replace_operators(self._suffix, pairs)

    def _first_node(self, network: fx.GraphModule) -> str:
        wanted = {operator.nodes[0] for operator in self.operators}
        names = (str(node.name) for node in network.graph.nodes)
        return next(name for name in names if name in wanted)

    def _load(self, prefix: fx.GraphModule) -> None:
        """Run what stands before the group once, and keep what the tests need."""
        task, limits = self.task, self.limits
        self._prefix = prefix
        learned = task.valid if task.train is None else task.train
        where = "eval_data" if task.train is None else "train_data"
        pool = list(_limited(task.batches(learned, where), limits.tune_samples))
        with torch.no_grad():
            moved = [(prefix(*inputs), targets) for inputs, targets in pool]
            self._learned = moved
            self._train: list[Batch] = moved if task.train is not None else []
            self._examples = self._local_examples(moved, limits.fit_samples)
            self._valid: list[Batch] = []
            self._whole = True
            size = 0
            for inputs, targets in task.batches(task.valid, "eval_data"):
                crossing = prefix(*inputs)
                size += sum(t.numel() * 4 for t in crossing if isinstance(t, Tensor))
                if size > limits.cache_bytes and self._valid:
                    self._whole = False
                    break
                self._valid.append((crossing, targets))
        samples, self._subset = 0, 0
        for inputs, _ in self._valid:
            samples += _length(inputs)
            self._subset += 1
            if samples >= self.gates.subset and not task.whole:
                break
        self._current_subset = task.score_batches(
            self._suffix, self._valid[: self._subset]
        )

    def _score(self, network: fx.GraphModule) -> Score:
        if self._whole:
            return self.task.score_batches(network, self._valid)
        return self.task.score(lambda *inputs: network(*self._prefix(*inputs)))

    def _local_examples(
        self, moved: list[Batch], limit: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Inputs and outputs of every site for at most ``limit`` samples, and for
        fewer where they would take more than half of the memory allowed."""
        seen: dict[str, list[Tensor]] = {}
        recorder = _Recorder(self._suffix, self.operators, seen)
        samples = 0
        for inputs, _ in moved:
            with torch.no_grad():
                recorder.run(*inputs)
            samples += _length(inputs)
            size = sum(4 * t.numel() for parts in seen.values() for t in parts)
            if samples >= limit or size > self.limits.cache_bytes // 2:
                break
        return [
            (
                torch.cat(seen[f"{op.nodes[0]}:in"])[:limit],
                torch.cat(seen[f"{op.output}:out"])[:limit],
            )
            for op in self.operators
        ]


class _Recorder(fx.Interpreter):
    """Keeps what goes into and comes out of operators."""

    def __init__(
        self,
        module: fx.GraphModule,
        operators: Sequence[Operator],
        seen: dict[str, list[Tensor]],
    ) -> None:
        super().__init__(module)
        self.calls = {op.nodes[0]: op.inputs[0] for op in operators}
        self.results = {op.output for op in operators}
        self.seen = seen

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.calls:
            source = next(x for x in n.all_input_nodes if x.name == self.calls[n.name])
            self.seen.setdefault(f"{n.name}:in", []).append(self.env[source])
        if n.name in self.results:
            self.seen.setdefault(f"{n.name}:out", []).append(result)
        return result


def _limited(batches: Any, samples: int) -> Any:
    count = 0
    for inputs, targets in batches:
        yield inputs, targets
        count += _length(inputs)
        if count >= samples:
            return


def _length(inputs: tuple[Any, ...]) -> int:
    return next(x.shape[0] for x in inputs if isinstance(x, Tensor))


def _state(module: nn.Module) -> Weights:
    return {
        name: tensor.detach().clone()
        for name, tensor in module.state_dict().items()
        if name != SOURCE
    }


def _seed(graph: Graph, seed: int) -> int:
    """One seed for each candidate, whatever the order of evaluation."""
    digest = hashlib.sha256(f"{seed}:{graph.digest}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
