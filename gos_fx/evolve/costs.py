"""What a template costs in the places of a group of operators, without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx

from gos_fx.evolve.fitness import Evaluation
from gos_fx.ir.graph import Graph
from gos_fx.kernels import tiles
from gos_fx.latency.analytical import graph_latency
from gos_fx.latency.energy import NO_WORK, EnergyEstimate, EnergyModel
from gos_fx.latency.memory import foreseen_memory
from gos_fx.latency.model import Estimate, total
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.targets.target import Target


class Costs:
    """Latency, parameters, and what else is an objective, by the models.

    ``network`` holds the ``operators`` of the group; latency and energy are sums over
    the group, memory is of the whole network.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        operators: Sequence[Operator],
        target: Target,
        threads: int | None,
        objectives: Sequence[str],
    ) -> None:
        self._network, self._operators = network, tuple(operators)
        self._target, self._threads = target, threads
        self._all: tuple[Operator, ...] = ()
        if "memory" in objectives:
            self._all = find_operators(network)
        self._energy = EnergyModel(target) if "energy" in objectives else None

    def of(self, graph: Graph) -> Evaluation:
        """Everything that is asked for.

        Raises:
            VerifyError: the template does not fit a site.
        """
        latency = self.latency(graph)
        return Evaluation(
            "",
            latency,
            self.parameters(graph),
            memory=self.memory(graph) if self._all else None,
            energy=self.energy(graph, latency),
        )

    def latency(self, graph: Graph) -> Estimate:
        """Analytical.

        Raises:
            VerifyError: the template does not fit a site.
        """
        return self.over_sites(
            graph, lambda site: graph_latency(site, self._target, self._threads)
        )

    def over_sites(
        self, graph: Graph, latency: Callable[[Graph], Estimate]
    ) -> Estimate:
        """Sum of the latencies of a template's concrete graphs."""
        each = [latency(graph.instantiate(op.bindings)) for op in self._operators]
        return total(each, each[0].source, self._target.name)

    def parameters(self, graph: Graph) -> int:
        """Trainable weights of a template over all sites."""
        return sum(_elements(graph, op.bindings, "weight") for op in self._operators)

    def memory(self, graph: Graph) -> int:
        """Bytes of the network with the template in place, as foreseen.

        Raises:
            VerifyError: the template does not fit a site.
        """
        everyone = self.placed(graph)
        target, threads = self._target, self._threads
        return foreseen_memory(self._network, everyone, target, threads).peak

    def placed(self, graph: Graph) -> list[Operator]:
        """All operators of the network, the group's with this template.

        Weights that these do not have yet are tensors without numbers.
        """
        group = {op.name for op in self._operators}
        everyone = self._all or find_operators(self._network)
        return [_with(op, graph) if op.name in group else op for op in everyone]

    def energy(self, graph: Graph, latency: Estimate) -> EnergyEstimate | None:
        """Of the group when it takes so long; None where energy is no objective."""
        if self._energy is None:
            return None
        work = NO_WORK
        for operator in self._operators:
            work += self._energy.graph(graph.instantiate(operator.bindings))
        return self._energy.joules(work, latency)


def _with(operator: Operator, template: Graph) -> Operator:
    weights = {
        value.name: torch.empty(tiles.concrete(value.type), device="meta")
        for value in template.instantiate(operator.bindings).weights
    }
    own = operator.own and template == operator.template
    return replace(operator, template=template, weights=weights, own=own)


def _elements(graph: Graph, bindings: Mapping[str, int], role: str) -> int:
    count = 0
    for value in graph.instantiate(bindings).weights:
        if value.type.role == role:
            assert isinstance(value.type.elements, int)
            count += value.type.elements
    return count
