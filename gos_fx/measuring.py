"""Latency, memory and energy of the networks of a search, all by one source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from gos_fx.ir.graph import Graph
from gos_fx.latency.choice import Chosen
from gos_fx.latency.energy import EnergyEstimate, EnergyModel
from gos_fx.latency.model import Estimate, total
from gos_fx.latency.profile import Profile, profile_network
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.result import Measures, Point, Replacement, apply_replacements
from gos_fx.targets.target import Target


class Measuring:
    """What is asked of the source that a search believes."""

    def __init__(self, chosen: Chosen, target: Target, inputs: tuple[Any, ...]) -> None:
        self.chosen, self.target, self.inputs = chosen, target, inputs
        self._energy = EnergyModel(target) if target.energy is not None else None

    def first_profile(self, network: fx.GraphModule) -> Profile:
        """Of the original, which decides the source.

        Raises:
            GosError: the source that was named cannot measure it.
        """
        operators = find_operators(network)
        return self.chosen.first_profile(network, self.inputs, operators)

    def profile(self, network: fx.GraphModule) -> Profile:
        """Of a network of the search.

        Raises:
            SourceLost, GosError: as :meth:`Chosen.profile`.
        """
        return self.chosen.profile(network, self.inputs, find_operators(network))

    def measures(
        self, network: fx.GraphModule, profile: Profile, metric: float
    ) -> Measures:
        """Of a network whose profile is known."""
        return Measures(
            profile.latency,
            sum(p.numel() for p in network.parameters()),
            metric,
            profile.memory_bytes,
            self.energy(network, find_operators(network), profile.latency),
            self.chosen.measured is not None,
        )

    def energy(
        self, network: fx.GraphModule, operators: Sequence[Operator], latency: Estimate
    ) -> EnergyEstimate | None:
        """Of a network of these operators; None where the target has no constants."""
        if self._energy is None:
            return None
        return self._energy.joules(self._energy.network(network, operators), latency)

    def renew(self, replacements: Iterable[Replacement]) -> dict[int, Replacement]:
        """The replacements with the model's latencies, by the identity of the old."""
        return {id(r): self._modelled(r) for r in replacements}

    def modelled(self, original: fx.GraphModule, point: Point) -> Point:
        """A point with the model's latency, after the source that measured was lost."""
        network = apply_replacements(original, point.replacements)
        source, operators = self.chosen.analytical, find_operators(network)
        latency = profile_network(network, source, (), operators).latency
        energy = self.energy(network, operators, latency)
        measures = replace(
            point.measures, latency=latency, energy=energy, confirmed=False
        )
        return Point(measures, point.replacements)

    def _modelled(self, replacement: Replacement) -> Replacement:
        source = self.chosen.analytical

        def latency(graph: Graph) -> Estimate:
            sites = (graph.instantiate(b) for b in replacement.bindings)
            return total(map(source.operator, sites), source.name, self.target.name)

        return replace(
            replacement,
            latency_before=latency(replacement.before),
            latency_after=latency(replacement.after),
        )
