"""Cut a network in front of an operator, so that what stands before runs once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx


@dataclass(frozen=True)
class Split:
    """``suffix(*prefix(*inputs))`` is the network; modules are shared with it."""

    prefix: fx.GraphModule
    suffix: fx.GraphModule


def split_before(graph_module: fx.GraphModule, node_name: str) -> Split:
    """Cut in front of the named node. Node names are kept in both halves.

    ``prefix`` returns the tuple of all values that cross the cut.
    """
    nodes = list(graph_module.graph.nodes)
    position = next(i for i, node in enumerate(nodes) if node.name == node_name)
    before = [n for n in nodes[:position] if n.op != "output"]
    inputs = [n for n in nodes[position:] if n.op == "placeholder"]
    before += inputs
    behind = [n for n in nodes[position:] if n.op != "placeholder"]
    crossing = [
        n for n in before if n.op != "get_attr" and any(u in behind for u in n.users)
    ]
    prefix, suffix = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in before:
        copies[node] = prefix.node_copy(node, lambda n: copies[n])
    prefix.output(tuple(copies[n] for n in crossing))
    moved: dict[fx.Node, fx.Node] = {}
    for node in crossing:
        moved[node] = suffix.placeholder(node.name)
    for node in before:
        if node.op == "get_attr" and any(u in behind for u in node.users):
            moved[node] = suffix.node_copy(node)
    result: Any = None
    for node in behind:
        if node.op == "output":
            result = suffix.output(fx.map_arg(node.args[0], lambda n: moved[n]))
        else:
            moved[node] = suffix.node_copy(node, lambda n: moved[n])
    assert result is not None
    name = type(graph_module).__name__
    return Split(
        fx.GraphModule(graph_module, prefix, name),
        fx.GraphModule(graph_module, suffix, name),
    )
