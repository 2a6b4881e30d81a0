"""What steers an optimization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gos_fx.evolve.engine import SearchOptions
from gos_fx.evolve.evaluator import Gates, Limits
from gos_fx.evolve.fitness import DEFAULT_OBJECTIVES
from gos_fx.evolve.training import FineTuning, LocalFit
from gos_fx.ir.verifier import Bounds


@dataclass(frozen=True)
class Options:
    """Everything that steers an optimization, apart from model, data and target.

    ``worth``: share of the model's latency below which a group of operators is not
    searched once the model is deployable; the whole gain would be within the error.
    ``finalists``: at most so many of a group's front are measured, where a source
    measures; the others are dropped.
    """

    epsilon: float = 0.01
    constraints: Mapping[str, float] = field(default_factory=dict)
    max_replacements: int = 10
    similar: int = 4
    worth: float = 0.05
    finalists: int = 8
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
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
