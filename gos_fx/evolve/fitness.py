"""The objectives of a candidate, in the form that DEAP compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from deap import base
from torch import Tensor

from gos_fx.ir.graph import Graph
from gos_fx.latency.model import Estimate

Weights = Mapping[str, Tensor]


class Fitness(base.Fitness):
    """(LAT, PARAM) of Equation 2, both minimised.

    LAT(o) is the latency of the model with the adapted operator minus that before this
    replacement, in seconds; PARAM the parameters of the adapted operators. Candidates
    that miss the accuracy have no fitness: they never enter a population.
    """

    weights: ClassVar[tuple[float, ...]] = (-1.0, -1.0)


@dataclass(frozen=True)
class Evaluation:
    """What is known of a candidate. ``reason`` is empty for a feasible one.

    ``latency`` is the sum over the group's sites, ``metric`` the model's score with the
    candidate in place, ``weights`` one mapping for each site.
    """

    reason: str = ""
    latency: Estimate | None = None
    parameters: int = 0
    metric: float = float("nan")
    weights: tuple[Weights, ...] = field(default=(), repr=False)
    tuned: bool = False

    @property
    def feasible(self) -> bool:
        return not self.reason


class Individual:
    """A template with its evaluation; DEAP copies this, the graph is shared."""

    def __init__(self, graph: Graph, evaluation: Evaluation, before: float) -> None:
        assert evaluation.latency is not None
        self.graph = graph
        self.evaluation = evaluation
        delta = evaluation.latency.seconds - before
        self.fitness = Fitness((delta, float(evaluation.parameters)))

    def __deepcopy__(self, memo: dict[int, object]) -> Individual:
        """DEAP's archives copy what they keep; nothing here is changed in place."""
        return self
