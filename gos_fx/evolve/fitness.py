"""The objectives of a candidate, in the form that DEAP compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deap import base
from torch import Tensor

from gos_fx.ir.graph import Graph
from gos_fx.latency.energy import EnergyEstimate
from gos_fx.latency.model import Estimate

Weights = Mapping[str, Tensor]


class Fitness(base.Fitness):
    """The values of the objectives, all minimised.

    The first two are (LAT, PARAM) of Equation 2. LAT(o) is the latency of the model
    with the adapted operator minus that before this replacement, in seconds; PARAM the
    parameters of the adapted operators. Candidates that miss the accuracy have no
    fitness: they never enter a population.
    """

    def __init__(self, values: Sequence[float] = (0.0,)) -> None:
        self.weights = (-1.0,) * len(values)
        super().__init__(values)


@dataclass(frozen=True)
class Evaluation:
    """What is known of a candidate. ``reason`` is empty for a feasible one.

    ``latency`` and ``energy`` are sums over the group's sites, ``memory`` the bytes of
    the whole model with the candidate in place, ``metric`` that model's score,
    ``weights`` one mapping for each site. ``memory`` and ``energy`` are None where they
    are no objective.
    """

    reason: str = ""
    latency: Estimate | None = None
    parameters: int = 0
    metric: float = float("nan")
    weights: tuple[Weights, ...] = field(default=(), repr=False)
    tuned: bool = False
    memory: int | None = None
    energy: EnergyEstimate | None = None

    @property
    def feasible(self) -> bool:
        return not self.reason

    def values(self, objectives: Sequence[str]) -> tuple[float, ...]:
        """One number for each objective; less is better."""
        return tuple(OBJECTIVES[name](self) for name in objectives)


def _latency(evaluation: Evaluation) -> float:
    assert evaluation.latency is not None
    return evaluation.latency.seconds


def _memory(evaluation: Evaluation) -> float:
    assert evaluation.memory is not None
    return float(evaluation.memory)


def _energy(evaluation: Evaluation) -> float:
    assert evaluation.energy is not None
    return evaluation.energy.joules


OBJECTIVES: Mapping[str, Callable[[Evaluation], float]] = {
    "latency": _latency,
    "parameters": lambda evaluation: float(evaluation.parameters),
    "memory": _memory,
    "energy": _energy,
}
# Those of the paper; every search has them.
DEFAULT_OBJECTIVES = ("latency", "parameters")


def dominates(
    a: Evaluation, b: Evaluation, objectives: Sequence[str] = DEFAULT_OBJECTIVES
) -> bool:
    """Whether ``a`` is at least as good as ``b`` in every objective."""
    pairs = zip(a.values(objectives), b.values(objectives), strict=True)
    return all(x <= y for x, y in pairs)


class Individual:
    """A template with its evaluation; DEAP copies this, the graph is shared.

    ``before``: seconds of the group as it was.
    """

    def __init__(
        self,
        graph: Graph,
        evaluation: Evaluation,
        before: float,
        objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    ) -> None:
        self.graph = graph
        self.evaluation = evaluation
        latency, *others = evaluation.values(objectives)
        self.fitness = Fitness((latency - before, *others))

    def __deepcopy__(self, memo: dict[int, object]) -> Individual:
        """DEAP's archives copy what they keep; nothing here is changed in place."""
        return self
