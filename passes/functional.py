"""Functions and methods between modules as operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from gos_fx.errors import Unsupported
from gos_fx.ir.builder import Builder
from gos_fx.ir.dim import Dim, Expr
from gos_fx.ir.types import Type
from gos_fx.passes import (  # noqa: F401  (fill the tables)
    functions,
    lowerings,
    modularize,
)
from gos_fx.passes.calls import attribute, dtype_of, input_name, shape_of, taken_out
from gos_fx.passes.emission import BATCH, along_batch
from gos_fx.passes.functions import layers
from gos_fx.passes.lower import (
    Lowered,
    Lowering,
    Value,
    finish,
    function_rule,
    is_lowered,
    lower_modules,
    refusals,
)
from gos_fx.passes.sizes import SIZES


@dataclass(frozen=True)
class Found:
    """A function's graph, and the FX nodes that it has to do with: the call and what
    takes its results apart, its maps, and what carries its results."""

    graph: Lowered
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def is_fixed(node: fx.Node) -> bool:
    """Whether nothing but attributes of the network, sizes and functions of them leads
    to a value."""
    return node.op not in ("placeholder", "call_module") and all(
        is_fixed(source) or "number" in source.meta for source in node.all_input_nodes
    )


def lower_function(node: fx.Node, owner: nn.Module) -> Found:
    """The instruction graph of one call.

    Raises:
        Unsupported: there is no rule, or it does not cover the arguments.
    """
    layer = modularize.layer_of(node, owner, layers.layer_of(node.target))
    if layer is not None and is_lowered(layer):
        (source,) = node.all_input_nodes[:1]
        shapes = [shape_of(source), shape_of(node)]
        graph = lower_modules([layer], shapes, dtype_of(source))
        return Found(graph, (node.name,), (source.name,), (node.name,))
    call = _Call(owner, Lowering(Builder(name_of(node))))
    with refusals():
        values, nodes, outputs = call.values(node)
        graph = finish(call.state, values)
    inputs = tuple(call.inputs[value.name] for value in graph.template.maps)
    return Found(graph, nodes, inputs, outputs)


def name_of(node: fx.Node) -> str:
    """Of the function that a node calls, as a graph's name."""
    target = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", "call")
    return str(name).strip("_") or "call"


@dataclass
class _Call:
    """One operator: the values of the FX nodes that it has met."""

    owner: nn.Module
    state: Lowering
    inputs: dict[str, str] = field(default_factory=dict)
    _values: dict[fx.Node, Any] = field(default_factory=dict)

    def values(
        self, node: fx.Node
    ) -> tuple[str | list[str], tuple[str, ...], tuple[str, ...]]:
        """Values that are read, nodes of the call, nodes that carry the values."""
        made = self._apply(node)
        if isinstance(made, str):
            return made, (node.name,), (node.name,)
        parts = taken_out(node, len(made))
        names = tuple(part.name for part in parts.values())
        return [made[i] for i in parts], (node.name, *names), names

    def _apply(self, node: fx.Node) -> Any:
        rule = function_rule(node.target)
        if rule is None:
            raise Unsupported(f"{name_of(node)} has no lowering")
        arguments: Any = (node.args, dict(node.kwargs))
        args, kwargs = fx.map_arg(arguments, self._argument)
        try:
            return rule(self.state, node.meta[SIZES], *args, **kwargs)
        except TypeError as error:  # an argument that the rule does not know
            raise Unsupported(f"{name_of(node)}: {error}") from error

    def _argument(self, node: fx.Node) -> Any:
        if "number" in node.meta:
            return node.meta[SIZES]
        if node.op == "get_attr":
            return attribute(self.owner, node)
        if node not in self._values:
            self._values[node] = self._value(node)
        return self._values[node]

    def _value(self, node: fx.Node) -> Any:
        if is_fixed(node):
            if function_rule(node.target) is None:
                return self._constant(node)
            name = self._apply(node)
            return Value(name, self.state.builder.types[name].shape)
        shape, dtype = shape_of(node), dtype_of(node)
        sizes: tuple[Dim, ...] = node.meta[SIZES]
        name = input_name(len(self.inputs))
        self.inputs[name] = node.name
        for size, known in zip(sizes, shape, strict=True):
            if isinstance(size, Expr):
                times, more = along_batch(size)
                self.state.bindings[str(BATCH)] = (known - more) // times
        self.state.builder.input(name, Type("map", sizes, dtype))
        return Value(name, sizes, dtype)

    def _constant(self, node: fx.Node) -> Any:
        """What a call that has no rule gives, where that is the same for each batch and
        nothing of it trains."""

        def known(source: fx.Node) -> Any:
            value = self._argument(source)
            is_number = "number" in source.meta and value == source.meta["number"]
            if is_number or (isinstance(value, Tensor) and not _trains(value)):
                return value
            raise Unsupported(f"{name_of(node)} has no lowering")

        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), known)
        if isinstance(node.target, str):
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)


def _trains(value: Tensor) -> bool:
    return isinstance(value, nn.Parameter)
