"""Instruction graph -> readable torch code, put in place of the modules it replaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.types import Type
from gos_fx.passes.operators import Operator
from gos_fx.passes.source import SOURCE, Source, code_digest


def emit_operator(
    template: Graph, bindings: Mapping[str, int], weights: Mapping[str, Tensor]
) -> fx.GraphModule:
    """A GraphModule of plain torch calls that computes the template at one site.

    Weights become parameters, constants buffers, under their names in the template.
    Any batch size is accepted.
    """
    concrete = template.instantiate(bindings)
    root = nn.Module()
    for declared in concrete.weights:
        value = weights[declared.name].detach().clone()
        if declared.type.role == "constant":
            root.register_buffer(declared.name, value)
        else:
            root.register_parameter(declared.name, nn.Parameter(value))
    graph = _ShapedTracer(_any_batch(concrete, template)).trace_graph(root)
    root.register_buffer(SOURCE, torch.zeros(0, dtype=torch.uint8))
    module = fx.GraphModule(root, graph, template.name)
    source = Source(template, dict(bindings), code_digest(module))
    module.register_buffer(SOURCE, source.to_tensor())
    return module.eval()


def replace_operators(
    graph_module: fx.GraphModule, pairs: Sequence[tuple[Operator, nn.Module]]
) -> fx.GraphModule:
    """A copy with each operator's nodes replaced by one call of its new module.

    The copy shares all other modules with ``graph_module``.
    """
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(graph_module.graph, copied)
    last = {node.name: new for node, new in copied.items()}
    for node in graph_module.graph.nodes:
        if node.op == "output":
            graph.output(output, node.type)
    for old, new in copied.items():
        new.meta = dict(old.meta)
    for operator, _ in pairs:
        first, *rest = (last[name] for name in operator.nodes)
        for node in reversed(rest):
            node.replace_all_uses_with(first)
            graph.erase_node(node)
        first.args, first.kwargs = (first.all_input_nodes[0],), {}
    changed = fx.GraphModule(graph_module, graph, graph_module.__class__.__name__)
    changed.meta = dict(graph_module.meta)
    for operator, module in pairs:
        parent, _, leaf = operator.name.rpartition(".")
        setattr(changed.get_submodule(parent), leaf, module)
    return changed.train(graph_module.training)


def _any_batch(concrete: Graph, template: Graph) -> Graph:
    """``concrete`` with the batch of its reshapes left to torch."""
    nodes = []
    for node, symbolic in zip(concrete.nodes, template.nodes, strict=True):
        if node.opcode == "reshape" and "N" in str(symbolic.attr("shape")[0]):
            node = replace(
                node, attributes=(("shape", (-1, *node.attr("shape")[1:])),)
            )
        nodes.append(node)
    return replace(concrete, nodes=tuple(nodes))


class _ShapedProxy(fx.Proxy):
    """A proxy that knows its shape, for references that ask for it."""

    @property
    def shape(self) -> torch.Size:
        shape: torch.Size = self.node.meta["shape"].shape
        return shape

    def dim(self) -> int:
        return len(self.shape)


class _ShapedTracer(fx.Tracer):
    """Records what the interpreter does; shapes are followed on the meta device."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._instructions = graph

    def trace_graph(self, root: nn.Module) -> fx.Graph:
        self.root = root
        self.graph = fx.Graph(tracer_cls=fx.Tracer)
        self.tensor_attrs = {}
        values: dict[str, Any] = {}
        for declared in self._instructions.inputs:
            kind = "placeholder" if declared.type.role == "map" else "get_attr"
            node = self.graph.create_node(
                kind, declared.name, name=declared.name, type_expr=None
            )
            node.meta["shape"] = _meta(declared.type)
            values[declared.name] = _ShapedProxy(node, self)
        result = evaluate(self._instructions, values)
        self.graph.output(result.node)  # type: ignore[attr-defined]
        return self.graph

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _ShapedProxy(node, self)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any
    ) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        node = proxy.node

        def known(value: fx.Node) -> Any:
            return value.meta["shape"]

        meta_args = fx.map_arg(node.args, known)
        meta_kwargs = fx.map_arg(node.kwargs, known)
        if kind == "call_function":
            node.meta["shape"] = target(*meta_args, **meta_kwargs)
        elif kind == "call_method":
            source, *others = meta_args
            node.meta["shape"] = getattr(source, target)(*others, **meta_kwargs)
        return proxy


def _meta(type: Type) -> Tensor:
    return torch.empty([int(d) for d in type.shape], device="meta")  # type: ignore[arg-type]
