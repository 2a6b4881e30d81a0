"""One node for each result of a layer that gives several."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx
from torch.fx.passes.infra.pass_base import PassResult

from gos_fx.passes.lower import is_whole
from gos_fx.passes.source import SOURCE


def take_apart(graph_module: fx.GraphModule, *, functions: bool = False) -> PassResult:
    """Readers of a tuple read its parts.

    before: ``y = lstm(x); return y``; after: ``y = lstm(x); o = y[0]; s = y[1];
    h = s[0]; c = s[1]; return o, (h, c)``. Of the layers that are lowered with their
    whole call, of operators that were emitted, and with ``functions`` of all functions
    and methods; the network has to carry shapes.
    """
    modules = dict(graph_module.named_modules(remove_duplicate=False))
    modified = False
    for node in list(graph_module.graph.nodes):
        if node.op == "call_module":
            module = modules[str(node.target)]
            wanted = is_whole(module) or hasattr(module, SOURCE)
        else:
            wanted = functions and node.op in ("call_function", "call_method")
        if wanted:
            modified |= _open(node, node.meta.get("tensor_meta"))
    if modified:
        graph_module.graph.lint()
        graph_module.recompile()
    return PassResult(graph_module, modified)


def _open(node: fx.Node, meta: Any) -> bool:
    """Whether anything changed for a node that gives this."""
    if hasattr(meta, "shape") or not isinstance(meta, tuple | list):
        return False
    indices = {user: _index(user, node, len(meta)) for user in node.users}
    parts: dict[int, fx.Node] = {}
    modified = False

    def part(index: int) -> Any:
        nonlocal modified
        if meta[index] is None:
            return None
        if index not in parts:
            modified = True
            with node.graph.inserting_after(node):
                made = node.graph.call_function(operator.getitem, (node, index))
            made.meta["tensor_meta"] = meta[index]
            parts[index] = made
        return parts[index]

    for user, index in indices.items():
        if index is not None and index not in parts:
            parts[index] = user
            node.append(user)  # in front of whatever else will read it
        elif index is not None:
            user.replace_all_uses_with(parts[index])
            node.graph.erase_node(user)
            modified = True
    for user, index in indices.items():
        if index is None:
            user.args, user.kwargs = fx.map_arg(
                (user.args, dict(user.kwargs)),
                lambda n: _all(meta, part) if n is node else n,
            )
    for index, made in list(parts.items()):
        modified |= _open(made, meta[index])
    return modified


def _all(meta: Any, part: Any) -> tuple[Any, ...]:
    return tuple(part(index) for index in range(len(meta)))


def _index(user: fx.Node, node: fx.Node, length: int) -> int | None:
    """The part that a reader takes, or None for one that takes all."""
    if user.op != "call_function" or user.target is not operator.getitem:
        return None
    index = user.args[1]
    if user.args[0] is not node or not isinstance(index, int):
        return None
    return index % length
