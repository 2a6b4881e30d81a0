"""Records what the interpreter does with a concrete graph as torch calls.

Most instructions become what their references call. A few have a form of their own,
registered by ``@emits``: what a reference can only do with tensors at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from gos_fx.ir.dim import Dim, Expr, substitute, symbol, symbols
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.interpreter import by_reference, evaluate
from gos_fx.ir.types import Type

BATCH = symbol("N")
_DTYPES = {"float32": torch.float32, "int64": torch.int64, "int32": torch.int32}


class BatchSize(int):
    """A size that grows with the batch: ``times`` N + ``more``."""

    times: int
    more: int

    def __new__(cls, size: int, times: int, more: int) -> BatchSize:
        made = super().__new__(cls, size)
        made.times, made.more = times, more
        return made


def along_batch(size: Dim) -> tuple[int, int]:
    """``a, b`` of a size a N + b that has no other symbol."""
    more, one = (substitute(size, {"N": n}) for n in (0, 1))
    return one - more, more  # type: ignore[return-value]


def any_batch(concrete: Graph, template: Graph, bindings: Mapping[str, int]) -> Graph:
    """``concrete`` with :class:`BatchSize` in the attributes that grow with N."""
    nodes = tuple(
        replace(
            node,
            attributes=tuple(
                (key, _marked(value, symbolic.attrs.get(key), bindings))
                for key, value in node.attributes
            ),
        )
        for node, symbolic in zip(concrete.nodes, template.nodes, strict=True)
    )
    return replace(concrete, nodes=nodes)


def _marked(value: Any, symbolic: Any, bindings: Mapping[str, int]) -> Any:
    if isinstance(value, Graph):
        return any_batch(value, symbolic, bindings)
    if isinstance(value, tuple) and isinstance(symbolic, tuple):
        return tuple(_marked(v, s, bindings) for v, s in zip(value, symbolic))
    if not isinstance(symbolic, Expr) or "N" not in symbols(symbolic):
        return value
    batch = bindings["N"]
    one, two = (
        int(substitute(symbolic, {**bindings, "N": n}))  # type: ignore[arg-type]
        for n in (batch + 1, batch + 2)
    )
    if two - one != one - value:
        return value  # no line; the batch is fixed here
    return BatchSize(value, one - value, value - (one - value) * batch)


# Takes the emitter, the instruction, its operands and the graph's first input.
Form = Callable[["Emitter", Node, Sequence[Any], Any], Any]
_FORMS: dict[str, Form] = {}


def emits(opcode: str) -> Callable[[Form], Form]:
    """Register how an instruction is written where its reference cannot say it."""

    def declare(form: Form) -> Form:
        if opcode in _FORMS:
            raise ValueError(f"{opcode} has two forms")
        _FORMS[opcode] = form
        return form

    return declare


def trace_instructions(
    concrete: Graph, template: Graph, root: nn.Module | None
) -> fx.Graph:
    """The calls that compute a graph: inputs are its maps, or with no ``root`` all
    that it has. Weights are attributes of ``root``."""
    return Emitter(concrete, template, root or nn.Module(), root is None).record()


def body_module(concrete: Graph, template: Graph) -> fx.GraphModule:
    """A graph as a module without weights of its own, which it takes as inputs."""
    graph = trace_instructions(concrete, template, None)
    return fx.GraphModule(nn.Module(), graph, concrete.name)


class ShapedProxy(fx.Proxy):
    """A proxy that knows its shape, for references that ask for it."""

    @property
    def shape(self) -> torch.Size:
        shape: torch.Size = self.node.meta["value"].shape
        return shape

    def dim(self) -> int:
        return len(self.shape)


class Emitter(fx.Tracer):
    """Shapes are followed on the meta device."""

    def __init__(
        self, concrete: Graph, template: Graph, root: nn.Module, all_inputs: bool
    ) -> None:
        super().__init__()
        self._concrete, self._template = concrete, template
        self._all_inputs = all_inputs
        self._batch: fx.Proxy | None = None
        self._inputs: dict[str, Any] = {}
        self.root = root
        self.tensor_attrs = {}

    def record(self) -> fx.Graph:
        """The FX graph."""
        self.graph = fx.Graph(tracer_cls=fx.Tracer)
        for declared in self._concrete.inputs:
            given = self._all_inputs or declared.type.role == "map"
            kind = "placeholder" if given else "get_attr"
            node = self.graph.create_node(
                kind, declared.name, name=declared.name, type_expr=None
            )
            node.meta["value"] = _meta(declared.type)
            self._inputs[declared.name] = ShapedProxy(node, self)
        result = evaluate(self._concrete, self._inputs, self._compute)
        self.graph.output(self.create_arg(result))
        return self.graph

    def batch_size(self) -> fx.Proxy:
        """The batch of what the code is given, when it runs."""
        if self._batch is None:
            name, axis, extent = next(
                (value.name, axis, extent)
                for value in self._template.maps
                for axis, extent in enumerate(value.type.shape)
                if isinstance(extent, Expr) and symbols(extent) == {"N"}
            )
            times, more = along_batch(extent)
            size = self._inputs[name].size(axis)
            size = size - more if more else size
            self._batch = size // times if times > 1 else size
        return self._batch

    def template_of(self, node: Node) -> Node:
        """The instruction in the template."""
        return self._template.nodes[self._concrete.nodes.index(node)]

    def size(self, value: Any) -> Any:
        """A size as it is written in code; tuples of sizes alike."""
        if isinstance(value, tuple):
            return tuple(self.size(item) for item in value)
        if not isinstance(value, BatchSize):
            return value
        size: Any = self.batch_size()
        size = size if value.times == 1 else size * value.times
        return size + value.more if value.more else size

    def call(
        self, name: str, module: nn.Module, operands: Sequence[Any], type: Type
    ) -> fx.Proxy:
        """A call of a submodule that gives this type."""
        self.root.add_module(name, module)
        proxy = self.create_proxy("call_module", name, tuple(operands), {})
        proxy.node.meta["value"] = _meta(type)
        return proxy

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ShapedProxy(node, self)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any
    ) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        node = proxy.node
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._value)
        if kind == "call_function":
            node.meta["value"] = target(*args, **kwargs)
        elif kind == "call_method":
            source, *others = args
            node.meta["value"] = getattr(source, target)(*others, **kwargs)
        return proxy

    def _value(self, node: fx.Node) -> Any:
        if "value" not in node.meta:  # a tensor that a reference made
            node.meta["value"] = getattr(self.root, str(node.target)).to("meta")
        return node.meta["value"]

    def _compute(self, node: Node, operands: Sequence[Any], like: Any) -> Any:
        form = _FORMS.get(node.opcode)
        if form is not None:
            return form(self, node, operands, like)
        attributes = tuple((key, self.size(value)) for key, value in node.attributes)
        return by_reference(replace(node, attributes=attributes), operands, like)


def _meta(type: Type) -> Any:
    if type.is_bundle:
        return tuple(map(_meta, type.parts))
    shape = [int(d) for d in type.shape]  # type: ignore[arg-type]
    return torch.empty(shape, dtype=_DTYPES[type.dtype], device="meta")


@emits("reshape")
def _reshape(emitter: Emitter, node: Node, operands: Sequence[Any], like: Any) -> Any:
    """The one axis that grows with the batch is left to torch."""
    shape = node.attr("shape")
    if sum(isinstance(size, BatchSize) for size in shape) == 1:
        shape = tuple(-1 if isinstance(size, BatchSize) else size for size in shape)
    return operands[0].reshape(emitter.size(shape))


@emits("zeros")
def _zeros(emitter: Emitter, node: Node, operands: Sequence[Any], like: Any) -> Any:
    return like.new_zeros(emitter.size(node.attr("shape")))
