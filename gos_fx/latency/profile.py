"""Per-operator latency, parameters and memory of a traced network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import fx

from gos_fx.latency.analytical import graph_latency, traffic_latency
from gos_fx.latency.model import Estimate, total
from gos_fx.passes.memory import activation_bytes, map_bytes, weight_bytes
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.targets.target import Target

# What only hands on what is there already, or gives a shape.
_VIEWS = frozenset(("view", "reshape", "flatten", "size", "getattr", "getitem"))


@dataclass(frozen=True)
class Row:
    """One operator. ``kind`` is its leading module's type or the function's name.

    ``memory_bytes`` counts its weights and the feature map that it leaves behind;
    ``reason`` says why it has no instruction graph, and is empty if it has one.
    """

    name: str
    kind: str
    modules: tuple[str, ...]
    latency: Estimate
    parameters: int
    memory_bytes: int
    reason: str = ""


@dataclass(frozen=True)
class Profile:
    """The operators of a network in order of execution, on one target.

    ``weight_bytes`` and ``activation_bytes`` (the largest sum alive at one time) are
    of the whole network.
    """

    target: str
    threads: int
    rows: tuple[Row, ...]
    weight_bytes: int
    activation_bytes: int

    @property
    def latency(self) -> Estimate:
        """Sum over the operators."""
        return total((row.latency for row in self.rows), "analytical", self.target)

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def memory_bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes

    def row(self, name: str) -> Row:
        """The operator of this name; raises ``KeyError`` if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, object]:
        """Plain data; latencies in seconds."""
        return asdict(self) | {
            "latency": asdict(self.latency),
            "parameters": self.parameters,
            "memory_bytes": self.memory_bytes,
        }


def profile_network(
    graph_module: fx.GraphModule,
    target: Target,
    threads: int | None = None,
    operators: Sequence[Operator] | None = None,
) -> Profile:
    """Profile a traced network with shapes by the analytical source.

    Functions between modules count by the bytes that they move.
    """
    if operators is None:
        operators = find_operators(graph_module)
    modules = dict(graph_module.named_modules())
    nodes = {node.name: node for node in graph_module.graph.nodes}
    by_first = {operator.nodes[0]: operator for operator in operators}
    inner = {name for operator in operators for name in operator.nodes[1:]}
    rows = []
    for name, node in nodes.items():
        if name in by_first:
            operator = by_first[name]
            last = nodes[operator.nodes[-1]]
            layer = modules[operator.name]
            kind = type(layer).__name__
            if operator.template is not None:
                kind = operator.template.name
            parameters = sum(p.numel() for p in layer.parameters())
            rows.append(
                Row(
                    name=operator.name,
                    kind=kind,
                    modules=operator.modules,
                    latency=operator_latency(operator, nodes, target, threads),
                    parameters=parameters,
                    memory_bytes=4 * parameters + map_bytes(last),
                    reason=operator.reason,
                )
            )
        elif name not in inner and node.op in ("call_function", "call_method"):
            rows.append(_glue(node, target, threads))
    return Profile(
        target.name,
        min(threads or target.threads, target.threads),
        tuple(rows),
        weight_bytes(graph_module),
        activation_bytes(graph_module),
    )


def operator_latency(
    operator: Operator,
    nodes: dict[str, fx.Node],
    target: Target,
    threads: int | None = None,
) -> Estimate:
    """Of its instruction graph; without one, of the bytes that it reads and writes."""
    if operator.template is not None:
        return graph_latency(operator.concrete, target, threads)
    return _traffic(nodes[operator.nodes[0]], target, threads)


def _traffic(node: fx.Node, target: Target, threads: int | None) -> Estimate:
    read = sum(map_bytes(source) for source in node.all_input_nodes)
    written = map_bytes(node)
    return traffic_latency(read + written, written / 4, target, threads)


def _glue(node: fx.Node, target: Target, threads: int | None) -> Row:
    kind = node.target if isinstance(node.target, str) else node.target.__name__
    if kind in _VIEWS:
        latency = total((), "analytical-traffic", target.name)
    else:
        latency = _traffic(node, target, threads)
    reason = "a function between modules"
    return Row(node.name, kind, (), latency, 0, map_bytes(node), reason)
