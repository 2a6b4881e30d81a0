"""One name for each call of a module."""

from __future__ import annotations

import copy

from torch import fx, nn


def separate_calls(graph_module: fx.GraphModule, *, tied: bool = False) -> None:
    """relu(x) + relu(y) -> relu(x) + relu_1(y), where ``relu`` has no state.

    An operator is known by its module's name, and is replaced under that name: two
    calls at different places must not share one. Layers of torch only; a module of the
    user may keep state that is no tensor. With ``tied`` layers with weights too: both
    then have the same tensors.
    """
    modules = dict(graph_module.named_modules())
    seen: set[str] = set()
    for node in graph_module.graph.nodes:
        if node.op != "call_module":
            continue
        name = str(node.target)
        if name in seen and (
            _is_stateless(modules[name]) or (tied and _is_layer(modules[name]))
        ):
            node.target = _fresh(name, modules)
            modules[node.target] = copy.copy(modules[name])
            graph_module.add_submodule(node.target, modules[node.target])
        seen.add(str(node.target))
    graph_module.recompile()


def _is_stateless(module: nn.Module) -> bool:
    return _is_layer(module) and not module.state_dict()


def _is_layer(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.")


def _fresh(name: str, modules: dict[str, nn.Module]) -> str:
    index = 1
    while f"{name}_{index}" in modules:
        index += 1
    return f"{name}_{index}"
