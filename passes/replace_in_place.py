"""In-place calls -> the same calls that leave their operand alone."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.infra.pass_base import PassResult
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

_OPERATORS: dict[Any, Callable[..., Any]] = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "pow", "matmul")
}


def replace_in_place(
    graph_module: fx.GraphModule, example_inputs: tuple[Any, ...]
) -> PassResult:
    """Later uses of what a call overwrites become uses of its result.

    before: ``y = relu_(x); z = x + y``; after: ``y = relu(x); z = y + y``. It covers
    augmented assignments, functions and layers of torch with ``inplace=True``, and
    methods such as ``add_``. Where a view shares the memory and is used later, or the
    memory is a weight's, the call stays in place (as a function, so that nothing takes
    it for a layer that is not). Modules are changed: they must not be shared.
    """
    modules = dict(graph_module.named_modules())
    nodes = list(graph_module.graph.nodes)
    if not any(_writes(node, modules) for node in nodes):
        return PassResult(graph_module, False)
    run = _Storages(graph_module)
    with torch.no_grad():
        run.run(*[x.clone() if isinstance(x, Tensor) else x for x in example_inputs])
    order = {node: i for i, node in enumerate(nodes)}
    modified = False
    for node in nodes:
        if not _writes(node, modules):
            continue
        written = node.args[0]
        if not isinstance(written, fx.Node):
            continue
        if _is_shared(node, written, nodes, order, run.storages):
            _keep(node, modules)
            continue
        _replace(node, modules)
        modified, later = True, {u for u in written.users if order[u] > order[node]}
        written.replace_all_uses_with(node, later.__contains__)
    graph_module.graph.lint()
    graph_module.recompile()
    return PassResult(graph_module, modified)


class _Storages(fx.Interpreter):
    """Which memory the result of each node lies in."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        # every value is kept: freed memory would be used again by another
        super().__init__(graph_module, garbage_collect_values=False)
        self.storages: dict[fx.Node, frozenset[int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.storages[n] = frozenset(
            x.untyped_storage()._cdata
            for x in tree_leaves(value)
            if isinstance(x, Tensor)
        )
        return value


def _writes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if not node.args:
        return False
    if node.op == "call_module":
        module = modules[str(node.target)]
        known = type(module).__module__.startswith("torch.nn.")
        return known and getattr(module, "inplace", False) is True
    if node.op == "call_method":
        return _out_of_place(str(node.target)) is not None
    if node.op == "call_function":
        return node.target in _OPERATORS or _bound(node).get("inplace") is True
    return False


def _out_of_place(method: str) -> str | None:
    """add_ -> add; None for what has no such form (copy_, zero_, __setitem__)."""
    name = method.removesuffix("_")
    if name == method or name.endswith("_") or not hasattr(Tensor, name):
        return None
    return name


def _bound(node: fx.Node) -> dict[str, Any]:
    """Arguments of a function of torch.nn.functional by name."""
    target: Any = node.target
    if getattr(F, getattr(target, "__name__", ""), None) is not target:
        return {}
    try:
        found = inspect.signature(target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):
        return {}
    return dict(found.arguments)


def _is_shared(
    node: fx.Node,
    written: fx.Node,
    nodes: list[fx.Node],
    order: dict[fx.Node, int],
    storages: dict[fx.Node, frozenset[int]],
) -> bool:
    for other in nodes[: order[node]]:
        if other is written or not storages[other] & storages[written]:
            continue
        if other.op == "get_attr" or any(order[u] > order[node] for u in other.users):
            return True
    return written.op == "get_attr"


def _replace(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    target: Any = node.target
    if node.op == "call_module":
        modules[target].inplace = False  # type: ignore[assignment]
    elif node.op == "call_method":
        node.target = _out_of_place(target) or target
    elif target in _OPERATORS:
        node.target = _OPERATORS[target]
    else:
        source, *rest = inspect.signature(target).parameters
        bound = _bound(node)
        node.args = (bound[source],)
        node.kwargs = {k: bound[k] for k in rest if k in bound and k != "inplace"}


def _keep(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    """A layer that must stay in place is no layer, and operator.iadd becomes add_."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if type(module) is nn.ReLU:
            node.op, node.target = "call_method", "relu_"
        elif type(module) is nn.LeakyReLU:
            node.op, node.target = "call_function", F.leaky_relu_
            node.args = (node.args[0], module.negative_slope)
    elif node.target in _OPERATORS:
        name = _OPERATORS[node.target].__name__.replace("truediv", "div")
        if hasattr(Tensor, f"{name}_"):  # fx records x += y as x + y when traced again
            node.op, node.target = "call_method", f"{name}_"
