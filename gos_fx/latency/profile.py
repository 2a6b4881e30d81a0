"""Per-operator latency, parameters and memory of a traced network, by any source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import fx

from gos_fx.latency.memory import foreseen_memory
from gos_fx.latency.model import Estimate, total
from gos_fx.latency.source import NetworkLatency, Source
from gos_fx.passes.memory import map_bytes
from gos_fx.passes.operators import Operator, find_operators


@dataclass(frozen=True)
class Row:
    """One operator, or what runs between two.

    ``kind`` is the operator's template, its leading module's type or the function's
    name; "kernel" for what only the compiled code has a name for. ``memory_bytes``
    counts its weights and the feature maps that it leaves behind; ``reason`` says why
    it has no instruction graph, and is empty if it has one.
    ``counters`` holds what the source counted, for instance ``cycles``.
    """

    name: str
    kind: str
    modules: tuple[str, ...]
    latency: Estimate
    parameters: int
    memory_bytes: int
    reason: str = ""
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """The operators of a network in order of execution, on one target.

    ``latency`` is that of the whole network: measured as a whole where the source
    measures, else the sum. ``weight_bytes``, ``activation_bytes`` (the largest sum
    alive at one time), ``scratch_bytes`` (of the kernel with most) and ``memory_bytes``
    (the largest sum of all) are of the whole network, foreseen, not measured.
    """

    target: str
    threads: int
    rows: tuple[Row, ...]
    latency: Estimate
    weight_bytes: int
    activation_bytes: int
    scratch_bytes: int = 0
    memory_bytes: int = 0

    @property
    def sum(self) -> Estimate:
        """Over the rows."""
        each = (row.latency for row in self.rows)
        return total(each, self.latency.source, self.target)

    @property
    def agrees(self) -> bool:
        """Whether the rows add up to the whole network within its error."""
        return abs(self.sum.seconds - self.latency.seconds) <= self.latency.error

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    def row(self, name: str) -> Row:
        """The operator of this name; raises ``KeyError`` if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def share(self, row: Row) -> float:
        """Part of a row in the sum of all."""
        return row.latency.seconds / (self.sum.seconds or 1.0)

    def to_json(self) -> dict[str, object]:
        """Plain data; latencies in seconds."""
        rows = [asdict(row) | {"share": self.share(row)} for row in self.rows]
        return asdict(self) | {
            "rows": rows,
            "sum": asdict(self.sum),
            "agrees": self.agrees,
            "parameters": self.parameters,
        }


def profile_network(
    graph_module: fx.GraphModule,
    source: Source,
    inputs: tuple[Any, ...],
    operators: Sequence[Operator] | None = None,
) -> Profile:
    """Profile a traced network with shapes.

    Args:
        inputs: one inference's, in the shapes of the trace.
        operators: of the network, where they are known already.

    Raises:
        GosError: the source cannot compile or measure it.
    """
    if operators is None:
        operators = find_operators(graph_module)
    found = source.network(graph_module, inputs)
    rows = _rows(graph_module, operators, found, source)
    memory = foreseen_memory(graph_module, operators, source.target, source.threads)
    return Profile(
        source.target.name,
        source.threads,
        rows,
        found.total,
        memory.weights,
        memory.activations,
        memory.scratch,
        memory.peak,
    )


def _rows(
    graph_module: fx.GraphModule,
    operators: Sequence[Operator],
    found: NetworkLatency,
    source: Source,
) -> tuple[Row, ...]:
    """The network's nodes in order, then what the source alone has a name for."""
    modules = dict(graph_module.named_modules())
    nodes = {node.name: node for node in graph_module.graph.nodes}
    by_first = {operator.nodes[0]: operator for operator in operators}
    latencies = {**found.others, **found.operators}
    nothing = total((), source.name, source.target.name)
    rows = []
    for name, node in nodes.items():
        if name in by_first:
            operator = by_first[name]
            layer = modules[operator.name]
            kind = type(layer).__name__
            if operator.template is not None:
                kind = operator.template.name
            parameters = sum(p.numel() for p in layer.parameters())
            left = operator.outputs or operator.nodes[-1:]
            size = 4 * parameters + sum(map_bytes(nodes[name]) for name in left)
            row = Row(
                operator.name,
                kind,
                operator.modules,
                # what runs nothing of its own, a view for instance, is not found
                latencies.pop(operator.name, nothing),
                parameters,
                size,
                operator.reason,
                found.counters.get(operator.name, {}),
            )
            rows.append(row)
        elif name in latencies:
            kind = node.target if isinstance(node.target, str) else node.target.__name__
            rows.append(
                _between(name, kind, latencies.pop(name), map_bytes(node), found)
            )
    rows += [
        _between(name, "kernel", latency, 0, found)
        for name, latency in latencies.items()
    ]
    return tuple(rows)


def _between(
    name: str, kind: str, latency: Estimate, size: int, found: NetworkLatency
) -> Row:
    counters = found.counters.get(name, {})
    reason = "glue"
    return Row(name, kind, (), latency, 0, size, reason, counters)
