"""Instruction graph -> readable torch code, put in place of the modules it replaces."""

from __future__ import annotations

import operator as operators
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from gos_fx.ir.graph import Graph
from gos_fx.passes import scan_loop  # noqa: F401  (how scans are emitted)
from gos_fx.passes.calls import attribute
from gos_fx.passes.emission import any_batch, trace_instructions
from gos_fx.passes.operators import Operator
from gos_fx.passes.source import SOURCE, Source, code_digest

_INPUT = "placeholder"


def emit_operator(
    template: Graph, bindings: Mapping[str, int], weights: Mapping[str, Tensor]
) -> fx.GraphModule:
    """A GraphModule of plain torch calls that computes the template at one site.

    It takes the template's maps in their order, and gives a tuple where the template
    gives a bundle. Weights become parameters, constants buffers, under their names in
    the template. Any batch size is accepted.
    """
    concrete = template.instantiate(bindings)
    root = nn.Module()
    for declared in concrete.weights:
        value = weights[declared.name].detach().clone()
        if declared.type.role == "constant":
            root.register_buffer(declared.name, value)
        else:
            root.register_parameter(declared.name, nn.Parameter(value))
    graph = trace_instructions(any_batch(concrete, template, bindings), template, root)
    root.register_buffer(SOURCE, torch.zeros(0, dtype=torch.uint8))
    module = fx.GraphModule(root, graph, template.name)
    source = Source(template, dict(bindings), code_digest(module))
    module.register_buffer(SOURCE, source.to_tensor())
    return module.eval()


def replace_operators(
    graph_module: fx.GraphModule, pairs: Sequence[tuple[Operator, nn.Module]]
) -> fx.GraphModule:
    """A copy with each operator's nodes replaced by one call of its new module.

    The copy shares all other modules with ``graph_module``. What only the replaced
    nodes read goes with them.
    """
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(graph_module.graph, copied)
    now = {node.name: new for node, new in copied.items()}
    for node in graph_module.graph.nodes:
        if node.op == "output":
            graph.output(output, node.type)
    for old, new in copied.items():
        new.meta = dict(old.meta)
    for operator, _ in pairs:
        _replace(operator, now)
    for old, new in reversed(copied.items()):
        if old.users and new in graph.nodes and not new.users and new.op != _INPUT:
            graph.erase_node(new)
    modules = {operator.name: module for operator, module in pairs}
    attributes = {
        str(node.target): modules.get(str(node.target)) or attribute(graph_module, node)
        for node in graph.nodes
        if node.op in ("call_module", "get_attr")
    }
    changed = fx.GraphModule(attributes, graph, graph_module.__class__.__name__)
    changed.meta = dict(graph_module.meta)
    return changed.train(graph_module.training)


def _replace(operator: Operator, now: dict[str, fx.Node]) -> None:
    """The operator's first node becomes the call. ``now`` is what stands for each node
    of the network, and follows."""
    call, *others = [now[name] for name in operator.nodes]
    results = [now[name] for name in operator.outputs]
    if len(results) == 1:
        carriers = [call]
        call.meta = dict(results[0].meta)
    else:
        carriers = _parts(call, results)
    call.op, call.target = "call_module", operator.name
    call.args, call.kwargs = tuple(now[name] for name in operator.inputs), {}
    for name, result, carrier in zip(operator.outputs, results, carriers, strict=True):
        if result is not carrier:
            result.replace_all_uses_with(carrier)
        now[name] = carrier
    for node in reversed(others):
        node.graph.erase_node(node)


def _parts(call: fx.Node, results: Sequence[fx.Node]) -> list[fx.Node]:
    """Nodes that take the results out of the tuple that the call gives."""
    parts: list[fx.Node] = []
    for index, result in enumerate(results):
        with call.graph.inserting_after(parts[-1] if parts else call):
            part = call.graph.call_function(operators.getitem, (call, index))
        part.meta = dict(result.meta)
        parts.append(part)
    call.meta = {"tensor_meta": tuple(r.meta.get("tensor_meta") for r in results)}
    return parts
