"""Inputs that are known become part of the network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, fx, nn


def bind_inputs(
    graph_module: fx.GraphModule, values: Mapping[str, Tensor | int | float]
) -> fx.GraphModule:
    """A copy in which placeholders are weights or numbers.

    before: ``f(x, w)``; after: ``f(x)`` with ``w`` as a parameter that does not train.
    The copy shares tensors and submodules with ``graph_module``. ``values`` is by
    placeholder name.
    """
    root = nn.Module()
    for name, child in graph_module.named_children():
        root.add_module(name, child)
    for name, parameter in graph_module.named_parameters(recurse=False):
        root.register_parameter(name, parameter)
    for name, buffer in graph_module.named_buffers(recurse=False):
        root.register_buffer(name, buffer)
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(graph_module.graph, copied)
    for node in graph_module.graph.nodes:
        if node.op == "output":
            graph.output(output)
    for node in list(graph.nodes):
        if node.op != "placeholder" or node.name not in values:
            continue
        value = values[node.name]
        if isinstance(value, Tensor):
            weight = nn.Parameter(value.detach(), requires_grad=False)
            root.register_parameter(node.name, weight)
            with graph.inserting_before(node):
                replacement = graph.get_attr(node.name)
            node.replace_all_uses_with(replacement)
        else:
            for user in list(node.users):
                user.args = _with(user.args, node, value)  # type: ignore[assignment]
                user.kwargs = _with(user.kwargs, node, value)  # type: ignore[assignment]
        graph.erase_node(node)
    return fx.GraphModule(root, graph)


def _with(arguments: object, node: fx.Node, value: float) -> object:
    return fx.map_arg(arguments, lambda n: value if n is node else n)
