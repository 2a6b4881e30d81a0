"""What an optimization found: every point of the front, ready to be taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gos_fx.errors import BadOption
from gos_fx.evolve.fitness import Weights
from gos_fx.ir.graph import Graph
from gos_fx.latency.energy import EnergyEstimate
from gos_fx.latency.model import Estimate
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.operators import Operator, find_operators

if TYPE_CHECKING:
    from torch import fx

# GraphModule copies what this entry of ``meta`` names on to its deep copies.
_PRESERVED = "_user_preserved_attributes"


@dataclass(frozen=True)
class Measures:
    """A network's latency on the target, trainable parameters and metric.

    ``memory_bytes`` is what the search foresees of weights, live activations and
    scratch memory; ``energy`` is modelled, None where the target has no constants.
    ``confirmed``: the latency was measured on this network as a whole. Else it is put
    together from its operators.
    """

    latency: Estimate
    parameters: int
    metric: float
    memory_bytes: int | None = None
    energy: EnergyEstimate | None = None
    confirmed: bool = False

    def value(self, objective: str) -> float:
        """What is minimised, by name; infinite where it is not known."""
        if objective == "latency":
            return self.latency.seconds
        if objective == "parameters":
            return float(self.parameters)
        if objective == "memory" and self.memory_bytes is not None:
            return float(self.memory_bytes)
        if objective == "energy" and self.energy is not None:
            return self.energy.joules
        return float("inf")


@dataclass(frozen=True)
class Replacement:
    """One group of similar operators and the template that took their place.

    ``operators`` names the leading module of each site, ``modules`` all members;
    ``bindings`` and ``weights`` have one entry for each site.
    """

    operators: tuple[str, ...]
    modules: tuple[tuple[str, ...], ...]
    before: Graph
    after: Graph
    bindings: tuple[Mapping[str, int], ...]
    weights: tuple[Weights, ...] = field(repr=False)
    latency_before: Estimate
    latency_after: Estimate

    @property
    def schedule_only(self) -> bool:
        """Whether it computes what the original did, only by other code."""
        return self.before.without_schedule() == self.after.without_schedule()

    def to_json(self) -> dict[str, Any]:
        """Names, texts and numbers, without the weights."""
        return {
            "operators": list(self.operators),
            "modules": [list(names) for names in self.modules],
            "before": self.before.text,
            "after": self.after.text,
            "schedule_only": self.schedule_only,
            "latency_before_s": self.latency_before.seconds,
            "latency_after_s": self.latency_after.seconds,
            "latency_source": self.latency_after.source,
        }


@dataclass(frozen=True)
class Point:
    """One network of the front: the original with some replacements."""

    measures: Measures
    replacements: tuple[Replacement, ...]


@dataclass
class OptimizationResult:
    """Attribute ``gos`` of an optimized network.

    ``pareto_front`` holds the networks that none beats in all objectives, the fastest
    first; ``chosen`` is the index of this one. ``facts`` records target,
    threads, seed, epsilon, versions and the like; ``logbook`` one entry for each
    generation.
    """

    original: fx.GraphModule = field(repr=False)
    baseline: Measures
    pareto_front: tuple[Point, ...]
    chosen: int
    facts: dict[str, Any]
    logbook: list[dict[str, Any]] = field(repr=False, default_factory=list)
    history: list[dict[str, Any]] = field(repr=False, default_factory=list)
    trainable: tuple[str, ...] = field(repr=False, default=())

    @property
    def point(self) -> Point:
        return self.pareto_front[self.chosen]

    @property
    def optimized(self) -> Measures:
        return self.point.measures

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        return self.point.replacements

    @property
    def speedup(self) -> float:
        """Latency of the original over that of this network, of one source."""
        return self.baseline.latency.seconds / self.optimized.latency.seconds

    def select(self, index: int) -> fx.GraphModule:
        """The network of another point of the front, with ``gos`` of its own.

        Raises:
            BadOption: the front has no such point.
        """
        if not 0 <= index < len(self.pareto_front):
            raise BadOption(
                f"the front has no point {index}",
                where="select",
                do=f"use 0 to {len(self.pareto_front) - 1}",
            )
        network = apply_replacements(
            self.original, self.pareto_front[index].replacements
        )
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(self._trains(name))
        result = OptimizationResult(
            self.original,
            self.baseline,
            self.pareto_front,
            index,
            self.facts,
            self.logbook,
            self.history,
            self.trainable,
        )
        return attach(network, result)

    def save(self, directory: str | Path) -> None:
        """Write everything to a directory that :func:`gos_fx.load` reads back.

        Raises:
            UnwritableRunDirectory, Unsupported.
        """
        from gos_fx.store import save_run

        save_run(self, Path(directory))

    def to_json(self) -> dict[str, Any]:
        """All but weights and code, as plain data; latencies in seconds."""
        return {
            **self.facts,
            "baseline": measures_to_json(self.baseline),
            "optimized": measures_to_json(self.optimized),
            "speedup": self.speedup,
            "replacements": [r.to_json() for r in self.replacements],
            "pareto_front": [
                {
                    **measures_to_json(point.measures),
                    "replacements": [r.to_json() for r in point.replacements],
                }
                for point in self.pareto_front
            ],
            "chosen": self.chosen,
            "history": self.history,
        }

    def _trains(self, name: str) -> bool:
        """A parameter trains if it did in the original, or is an operator's new one."""
        replaced = {name for r in self.replacements for name in r.operators}
        return name in self.trainable or name.rpartition(".")[0] in replaced


def measures_to_json(measures: Measures) -> dict[str, Any]:
    energy = measures.energy
    return {
        "latency_s": measures.latency.seconds,
        "latency_error": measures.latency.error,
        "latency_source": measures.latency.source,
        "latency_confirmed": measures.confirmed,
        "parameters": measures.parameters,
        "metric": measures.metric,
        "memory_bytes": measures.memory_bytes,
        "energy_j": None if energy is None else energy.joules,
        "energy_error": None if energy is None else energy.error,
        "energy_source": None if energy is None else energy.source,
    }


def apply_replacements(
    network: fx.GraphModule, replacements: Sequence[Replacement]
) -> fx.GraphModule:
    """A copy of a traced network with the replacements in place.

    What is not replaced is deep-copied, so that the copy trains on its own.
    """
    import copy

    network = copy.deepcopy(network)
    for replacement in replacements:
        operators = {op.name: op for op in find_operators(network)}
        pairs: list[tuple[Operator, Any]] = []
        for i, name in enumerate(replacement.operators):
            module = emit_operator(
                replacement.after, replacement.bindings[i], replacement.weights[i]
            )
            pairs.append((operators[name], module))
        network = replace_operators(network, pairs)
    return network.eval()


def attach(network: fx.GraphModule, result: OptimizationResult) -> fx.GraphModule:
    """Make ``network.gos`` the result, in the way that copies keep."""
    network.gos = result  # type: ignore[assignment]
    network.meta[_PRESERVED] = {"gos": result}
    network.recompile()
    return network
