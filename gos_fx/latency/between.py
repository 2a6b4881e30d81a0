"""A traced network as instructions: operators, and torch's functions between them.

What is compiled from torch code is known by rules, or by its graph where none is there.

The code generator fuses over the borders of operators, so that an activation or a sum
of two maps behind a convolution is no function of its own. Rules of its importer say
what the functions between operators are; what they do not know stays torch's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from gos_fx.ir.network import Network
from gos_fx.kernels.importer import (  # noqa: F401  (fill the table of rules)
    elementwise,
    images,
    moving,
    products,
)
from gos_fx.kernels.importer.builder import Builder, Value
from gos_fx.kernels.importer.rules import ATEN
from gos_fx.kernels.simplify import simplify
from gos_fx.passes.compiled_part import compiled_parts
from gos_fx.passes.memory import tensor_metas
from gos_fx.passes.operators import Operator

_SAME = "clone.default"
# Rules by the names of functions, methods and types of modules in lower case, where
# those are not the rules' own.
_RULES = {
    "iadd": "add.Tensor",
    "imul": "mul.Tensor",
    "truediv": "div.Tensor",
    "relu_": "relu.default",
    "hardtanh_": "hardtanh.default",
    "view": "reshape.default",
    "flatten": "reshape.default",
    "squeeze": "reshape.default",
    "unsqueeze": "reshape.default",
    "identity": _SAME,
    "dropout": _SAME,
    "dropout2d": _SAME,
    "contiguous": _SAME,
    "leakyrelu": "leaky_relu.default",
}
_KINDS = ("default", "Tensor", "int", "dim")
# Arguments of functions that change no result.
_IGNORED = ("inplace", "training", "return_indices")
# What rules call arguments that torch's functions name otherwise.
_RENAMED = {"kernel_size": "kernel", "min_val": "low", "max_val": "high"}
_MODULES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Hardtanh: ("min_val", "max_val"),
    nn.LeakyReLU: ("negative_slope",),
}


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape that the trace recorded; empty where there is none."""
    meta = node.meta.get("tensor_meta")
    return tuple(int(x) for x in getattr(meta, "shape", ()))


@dataclass(frozen=True)
class Imported:
    """A traced network as instructions.

    Attributes:
        network: with operators inlined. Owners are the names of operators and of nodes
            between them.
        unknown: calls that no rule knows; what they give are inputs of the network.
        values: name of the value that a node gives, where torch reads or gives it.
    """

    network: Network
    unknown: tuple[fx.Node, ...]
    values: Mapping[fx.Node, str]


def imported(traced: fx.GraphModule, operators: Sequence[Operator]) -> Imported:
    """The network with operators inlined, and what torch does around it."""
    walk = _Walk(traced, operators)
    for node in traced.graph.nodes:
        walk.add(node)
    network = walk.network()
    return Imported(network, tuple(walk.unknown), walk.values(network))


def network_of(
    traced: fx.GraphModule, operators: Sequence[Operator]
) -> tuple[Network, tuple[fx.Node, ...]]:
    """The network with operators inlined, and the calls that no rule knows."""
    found = imported(traced, operators)
    return found.network, found.unknown


class _Walk:
    def __init__(self, traced: fx.GraphModule, operators: Sequence[Operator]) -> None:
        self._traced = traced
        self._builder = Builder()
        self._values: dict[fx.Node, Value | Tensor] = {}
        parts = compiled_parts(traced, operators)
        self._ends = {name: op for op in parts for name in op.outputs}
        self._inner = {n for op in parts for n in op.nodes} - {*self._ends}
        # Compiled from torch code; where no rule knows that, the graph says as much.
        self._others = {
            op.nodes[0]: op
            for op in operators
            if op.template is not None
            and not (self._inner | {*self._ends}) & {*op.nodes}
            and all(value.type.dtype == "float32" for value in op.template.maps)
        }
        self._owners = {name: op.name for op in operators for name in op.nodes}
        self._nodes = {node.name: node for node in traced.graph.nodes}
        self._read: list[Value] = []
        self.unknown: list[fx.Node] = []

    def add(self, node: fx.Node) -> None:
        """What a node gives, as a value of the network."""
        if node.op == "output":
            self._need(node)
        done = node in self._values or node.name in self._inner
        if done or node.op in ("output", "placeholder", "get_attr") or _is_size(node):
            return
        operator = self._ends.get(node.name)
        found = None if operator else self._ruled(node)
        if found is not None:
            self._values[node] = found
            return
        operator = operator or self._others.get(node.name)
        if operator is not None:
            self._inline(operator)
            self._inner.update(operator.nodes)
            return
        self._need(node)
        self.unknown.append(node)

    def network(self) -> Network:
        """All that is needed."""
        return simplify(self._builder.network(self._read))

    def values(self, network: Network) -> dict[fx.Node, str]:
        """Names of inputs and outputs by the nodes that stand for them."""
        ends = {*network.outputs, *(v.name for v in network.inputs)}
        return {
            node: value.name
            for node, value in self._values.items()
            if isinstance(value, Value) and value.name in ends
        }

    def _need(self, node: fx.Node) -> None:
        """What torch reads must be in memory."""
        for source in node.all_input_nodes:
            value = self._values.get(source)
            if isinstance(value, Value):
                self._read.append(value)

    def _inline(self, operator: Operator) -> None:
        """All results of an operator."""
        self._builder.owner = operator.name
        graph = operator.concrete
        maps = (self._operand(self._nodes[name]) for name in operator.inputs)
        values = [operator.weights.get(v.name) for v in graph.inputs]
        given = (next(maps) if value is None else value for value in values)
        found = self._builder.inline(graph, given)
        results = found if graph.result.is_bundle else (found,)
        for name, value in zip(operator.outputs, results, strict=True):
            self._values[self._nodes[name]] = value

    def _operand(self, node: fx.Node) -> Value | Tensor:
        if node not in self._values:
            self._values[node] = self._builder.map(node, shape_of(node))
        return self._values[node]

    def _ruled(self, node: fx.Node) -> Value | Tensor | None:
        """The result by a rule; None without one that takes these arguments."""
        rule = _rule(_kind(node))
        shape = shape_of(node)
        sources = node.all_input_nodes
        if rule is None or not shape or not all(map(shape_of, sources)):
            return None
        self._builder.owner = self._owners.get(node.name, node.name)
        values: dict[fx.Node, Any] = {x: self._operand(x) for x in sources}
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        kwargs = {_RENAMED.get(k, k): v for k, v in kwargs.items() if k not in _IGNORED}
        if node.op == "call_module":
            module = self._traced.get_submodule(str(node.target))
            args += tuple(getattr(module, a) for a in _MODULES.get(type(module), ()))
        if rule is ATEN.find(f"aten.{_SAME}"):
            args, kwargs = args[:1], {}
        try:
            found = rule(self._builder, shape, *args, **kwargs)
        except TypeError:
            return None  # arguments of another form of the function
        return found if isinstance(found, Value) and found.shape == shape else None


def _is_size(node: fx.Node) -> bool:
    """Whether a call gives no tensor: arithmetic on sizes, which the compiler knows."""
    called = node.op in ("call_function", "call_method")
    return called and not tensor_metas(node.meta.get("tensor_meta"))


def _kind(node: fx.Node) -> str:
    """Name of a node's function, or of its module's type, in lower case."""
    if node.op == "call_module":
        owner = node.graph.owning_module
        assert owner is not None
        return type(owner.get_submodule(str(node.target))).__name__.lower()
    if isinstance(node.target, str):
        return node.target
    name = str(getattr(node.target, "__name__", node.target))
    # Functions that choose between two at a call are called after the node alone.
    return name if name != "fn" else node.name.rstrip("_0123456789")


def _rule(kind: str) -> Any:
    if kind in _RULES:
        return ATEN.find(f"aten.{_RULES[kind]}")
    found = (ATEN.find(f"aten.{kind}.{form}") for form in _KINDS)
    return next((rule for rule in found if rule is not None), None)
