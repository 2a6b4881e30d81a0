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
    placeholder name; a number may stand for a tensor whose ``item()`` alone is used.
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
            _put(node, value)
        graph.erase_node(node)
    return fx.GraphModule(root, graph)


def _put(node: fx.Node, value: float) -> None:
    """The number for the node, and for ``node.item()``."""

    def known(argument: fx.Node) -> object:
        return value if argument is node else argument

    for user in list(node.users):
        if user.op == "call_method" and user.target == "item":
            _put(user, value)
            user.graph.erase_node(user)
        else:
            user.args = fx.map_arg(user.args, known)
            user.kwargs = fx.map_arg(user.kwargs, known)
