"""Candidates that were judged, as points: which is taken, and which none beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gos_fx.errors import GosError
from gos_fx.evolve.evaluator import Evaluator
from gos_fx.evolve.fitness import Evaluation, Individual
from gos_fx.ir.graph import Graph
from gos_fx.latency.choice import CANDIDATE_ERRORS, Chosen
from gos_fx.latency.model import Estimate, uncertainty
from gos_fx.result import Point, Replacement


def judge(
    front: Sequence[Individual], evaluator: Evaluator, chosen: Chosen, finalists: int
) -> tuple[list[Individual], Evaluation, dict[str, str]]:
    """The finalists of a front with the latencies of the source that confirms.

    Where nothing confirms, the front as it is.

    Returns:
        the finalists, the original group, and by text why a finalist has no latency.

    Raises:
        SourceLost, GosError: as :meth:`Chosen.operator`.
    """
    if chosen.measured is None:
        return list(front), evaluator.before, {}

    def again(graph: Graph, known: Evaluation) -> Evaluation:
        latency = evaluator.costs.over_sites(graph, chosen.operator)
        energy = evaluator.costs.energy(graph, latency)
        return replace(known, latency=latency, energy=energy)

    before = again(evaluator.original, evaluator.before)
    judged, refused = [], {}
    for individual in spread_out(front, finalists):
        try:
            found = again(individual.graph, individual.evaluation)
        except CANDIDATE_ERRORS as error:
            refused[individual.graph.digest] = _reason(error)
            continue
        judged.append(
            Individual(
                individual.graph, found, seconds_of(before), evaluator.objectives
            )
        )
    return judged, before, refused


def spread_out(front: Sequence[Individual], most: int) -> list[Individual]:
    """At most so many, evenly over the front from the fastest to the slowest."""
    ordered = sorted(front, key=lambda i: i.fitness.values)
    if len(ordered) <= most:
        return ordered
    step = (len(ordered) - 1) / max(1, most - 1)
    return [ordered[round(i * step)] for i in range(most)]


def winner(
    judged: Sequence[Individual], before: Evaluation, deployable: bool
) -> Individual | None:
    """The fastest point (the smallest while not deployable) that gains more than its
    error; None keeps the operator."""
    gaining = []
    for individual in judged:
        found = individual.evaluation
        assert found.latency is not None and before.latency is not None
        gain = before.latency.seconds - found.latency.seconds
        if deployable and gain > uncertainty(before.latency, found.latency):
            gaining.append(individual)
        if not deployable and found.parameters < before.parameters:
            gaining.append(individual)
    if not gaining:
        return None
    key = (0, 1) if deployable else (1, 0)
    return min(gaining, key=lambda i: tuple(i.fitness.values[k] for k in key))


def replacement_of(
    evaluator: Evaluator, individual: Individual, before: Evaluation
) -> Replacement:
    """The group's sites with the individual's template and weights."""
    found, group = individual.evaluation, evaluator.operators
    assert found.latency is not None and before.latency is not None
    return Replacement(
        operators=tuple(op.name for op in group),
        modules=tuple(op.modules for op in group),
        before=evaluator.original,
        after=individual.graph,
        bindings=tuple(dict(op.bindings) for op in group),
        weights=found.weights,
        latency_before=before.latency,
        latency_after=found.latency,
    )


def composed(
    whole: Estimate, share: float, before: Evaluation, found: Evaluation
) -> Estimate:
    """Latency of a network of which a group that has this share gets another template,
    which takes the time of the group in the ratio of the two measured alone."""
    ratio = seconds_of(found) / seconds_of(before)
    return whole.scaled(1.0 - share * (1.0 - ratio))


def front_of(
    points: Sequence[Point], chosen: Point, objectives: Sequence[str]
) -> tuple[Point, ...]:
    """What none beats in all objectives, the fastest first.

    The chosen point stays in it, also where a gain within the error beats it.
    """

    def key(point: Point) -> tuple[float, ...]:
        return tuple(point.measures.value(name) for name in objectives)

    kept: list[Point] = []
    for point in sorted(points, key=key):
        beaten = any(
            all(a <= b for a, b in zip(key(other), key(point), strict=True))
            for other in kept
        )
        if point is chosen or not beaten:
            kept.append(point)
    return tuple(kept)


def seconds_of(evaluation: Evaluation) -> float:
    """Seconds of what has a latency."""
    assert evaluation.latency is not None
    return evaluation.latency.seconds


def _reason(error: GosError) -> str:
    return f"{type(error).__name__}: {error}"
