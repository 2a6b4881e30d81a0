"""What a model needs in memory: its weights and the feature maps alive at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

# What only hands on what is there already, or gives a shape.
VIEWS = frozenset(("view", "reshape", "flatten", "size", "getattr", "getitem"))


def weight_bytes(graph_module: fx.GraphModule) -> int:
    """Bytes of all parameters and floating-point buffers, shared ones once."""
    tensors: dict[int, Tensor] = {id(p): p for p in graph_module.parameters()}
    tensors |= {id(b): b for b in graph_module.buffers() if b.is_floating_point()}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def activation_bytes(graph_module: fx.GraphModule) -> int:
    """Largest sum of feature maps alive at one time, in order of execution.

    A map lives from the node that computes it to its last reader. The network has to
    carry shapes (``tensor_meta``); what a kernel needs inside is not counted.
    """
    nodes = list(graph_module.graph.nodes)
    last = {node: i for i, node in enumerate(nodes)}
    for i, node in enumerate(nodes):
        for source in node.all_input_nodes:
            last[source] = i
    alive, peak = 0, 0
    for i, node in enumerate(nodes):
        if node.op not in ("get_attr", "output"):
            alive += map_bytes(node)
        peak = max(peak, alive)
        alive -= sum(
            map_bytes(source)
            for source in {*node.all_input_nodes, node}
            if last[source] == i and source.op not in ("get_attr", "output")
        )
    return peak


def map_bytes(node: fx.Node) -> int:
    """Bytes of what a node computes; 0 where no tensor is known."""
    return sum(
        meta.shape.numel() * torch.empty(0, dtype=meta.dtype).element_size()
        for meta in tensor_metas(node.meta.get("tensor_meta"))
    )


def tensor_metas(meta: Any) -> list[Any]:
    """The tensors of a ``tensor_meta`` entry, which may be nested."""
    if hasattr(meta, "shape") and hasattr(meta, "dtype"):
        return [meta]
    if isinstance(meta, dict):
        return [m for value in meta.values() for m in tensor_metas(value)]
    if isinstance(meta, list | tuple):
        return [m for value in meta for m in tensor_metas(value)]
    return []
