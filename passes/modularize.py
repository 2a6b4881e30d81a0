"""Functional calls with constant weights -> layers, so that they become operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.infra.pass_base import PassResult
from torch.nn import functional as F

from gos_fx.passes.trace import ExampleInputs, propagate_shapes

# Takes the rank of the feature map, then what the function takes behind it: constants
# as tensors, all else as in the graph. None where no layer computes the same.
Rule = Callable[..., nn.Module | None]
LAYERS: dict[Any, Rule] = {}


def modularize(
    graph_module: fx.GraphModule, example_inputs: ExampleInputs
) -> PassResult:
    """Calls of functions and methods become calls of layers, where their weights are
    attributes of the network.

    before: ``F.relu(torch.conv2d(x, self.w))``; after: ``self.relu(self.conv2d(x))``.
    Dropout that does not drop goes. What works in place or in training mode stays.
    """
    propagate_shapes(graph_module, example_inputs)
    modified = False
    for node in list(graph_module.graph.nodes):
        if node.op not in ("call_function", "call_method"):
            continue
        module = layer_of(node, graph_module, LAYERS.get(node.target))
        if module is None:
            continue
        source = node.args[0]
        if isinstance(module, nn.Identity):
            node.replace_all_uses_with(source)
            graph_module.graph.erase_node(node)
        else:
            name = _fresh(node.name, graph_module)
            graph_module.add_submodule(name, module)
            node.op, node.target = "call_module", name
            node.args, node.kwargs = (source,), {}
        modified = True
    if modified:
        for node in reversed(graph_module.graph.nodes):
            if node.op == "get_attr" and not node.users:
                graph_module.graph.erase_node(node)
        graph_module.graph.lint()
        graph_module.recompile()
    return PassResult(graph_module, modified)


def layer_of(
    node: fx.Node, graph_module: nn.Module, rule: Rule | None
) -> nn.Module | None:
    """The layer that computes what a call of a function or method does, made by the
    rule of its target; None where there is none. The network has to carry shapes."""
    source = node.args[0] if node.args else None
    if rule is None or not isinstance(source, fx.Node):
        return None
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    before = getattr(source.meta.get("tensor_meta"), "shape", None)
    if shape is None or before is None:
        return None
    args, kwargs = fx.map_arg(
        (node.args[1:], dict(node.kwargs)), lambda n: _constant(n, graph_module)
    )
    if _holds_nodes((args, kwargs)):
        return None
    try:
        with torch.device("meta"):  # a layer's own weights would be drawn at random
            module = rule(len(before), *args, **kwargs)
    except (TypeError, ValueError):  # an argument that the rule or the layer lacks
        return None
    return None if module is None else module.eval()


def _constant(node: fx.Node, graph_module: nn.Module) -> Any:
    """The tensor of an attribute, or a size; any other node stays what it is."""
    if "number" in node.meta:
        return node.meta["number"]
    if node.op != "get_attr":
        return node
    value: Any = graph_module
    for name in str(node.target).split("."):
        value = getattr(value, name)
    return value


def _holds_nodes(arguments: Any) -> bool:
    found: list[fx.Node] = []
    fx.map_arg(arguments, found.append)
    return bool(found)


def _fresh(name: str, graph_module: fx.GraphModule) -> str:
    candidate, index = name, 1
    while hasattr(graph_module, candidate):
        candidate, index = f"{name}_{index}", index + 1
    return candidate


def layer_rule(
    *functions: Any, table: dict[Any, Rule] = LAYERS
) -> Callable[[Rule], Rule]:
    """Register how the layer of some functions is made."""

    def declare(rule: Rule) -> Rule:
        for function in functions:
            if function in table:
                raise ValueError(f"{function} has two rules")
            table[function] = rule
        return rule

    return declare


def weighted(module: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """The layer with these weights, which do not train."""
    for name, tensor in tensors.items():
        if tensor is not None:
            weight = nn.Parameter(tensor.detach(), requires_grad=False)
            module.register_parameter(name, weight)
    return module


@layer_rule(torch.conv2d)  # which torch.nn.functional.conv2d is
def _conv2d(
    rank: int,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> nn.Module:
    c_out, c_in, *kernel = weight.shape
    layer = nn.Conv2d(
        c_in * groups,
        c_out,
        (kernel[0], kernel[1]),
        _pair(stride),
        padding if isinstance(padding, str) else _pair(padding),
        _pair(dilation),
        groups,
        bias is not None,
    )
    return weighted(layer, weight=weight, bias=bias)


@layer_rule(F.linear)
def _linear(rank: int, weight: Tensor, bias: Tensor | None = None) -> nn.Module | None:
    if weight.dim() != 2:
        return None
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return weighted(layer, weight=weight, bias=bias)


@layer_rule(F.batch_norm)
def _batch_norm(
    rank: int,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> nn.Module | None:
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}.get(rank)
    if training or kind is None or running_mean is None or running_var is None:
        return None
    if (weight is None) is not (bias is None):
        return None
    layer = kind(len(running_mean), eps, momentum, affine=weight is not None)
    layer.running_mean, layer.running_var = running_mean.detach(), running_var.detach()
    layer.num_batches_tracked = None
    return weighted(layer, weight=weight, bias=bias)


@layer_rule(F.relu, torch.relu, "relu")
def _relu(rank: int, inplace: bool = False) -> nn.Module | None:
    return None if inplace else nn.ReLU()


@layer_rule(F.leaky_relu)
def _leaky_relu(
    rank: int, negative_slope: float = 0.01, inplace: bool = False
) -> nn.Module | None:
    return None if inplace else nn.LeakyReLU(negative_slope)


@layer_rule(torch.sigmoid, F.sigmoid, "sigmoid")
def _sigmoid(rank: int) -> nn.Module:
    return nn.Sigmoid()


@layer_rule(torch.tanh, F.tanh, "tanh")
def _tanh(rank: int) -> nn.Module:
    return nn.Tanh()


@layer_rule(F.max_pool2d, torch.max_pool2d)
def _max_pool2d(
    rank: int,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.Module | None:
    if return_indices:
        return None
    return nn.MaxPool2d(
        kernel_size, stride or None, padding, dilation, ceil_mode=ceil_mode
    )


@layer_rule(F.avg_pool2d)
def _avg_pool2d(
    rank: int,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> nn.Module:
    return nn.AvgPool2d(
        kernel_size,
        stride or None,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )


@layer_rule(F.adaptive_avg_pool2d)
def _adaptive_avg_pool2d(rank: int, output_size: Any) -> nn.Module:
    return nn.AdaptiveAvgPool2d(output_size)


@layer_rule(torch.flatten, "flatten")
def _flatten(rank: int, start_dim: int = 0, end_dim: int = -1) -> nn.Module | None:
    if start_dim != 1 or end_dim not in (-1, rank - 1):
        return None
    return nn.Flatten()


@layer_rule(F.dropout, F.dropout2d)
def _dropout(
    rank: int, p: float = 0.5, training: bool = True, inplace: bool = False
) -> nn.Module | None:
    return None if training else nn.Identity()


def _pair(value: Any) -> tuple[int, int]:
    first, *rest = value if isinstance(value, list | tuple) else (value,)
    return first, (rest[0] if rest else first)
