"""Which sizes of a traced network grow with its batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from gos_fx.ir.dim import Dim
from gos_fx.passes.emission import BATCH

SIZES = "sizes"  # node.meta: a shape, or shapes, or numbers, with the batch as N


def note_sizes(graph_module: fx.GraphModule, example_inputs: tuple[Any, ...]) -> int:
    """Note on every node its sizes with the batch as the symbol N; gives the batch.

    The batch is the first axis of the first input, and of others of that size. The
    network, which carries shapes, runs on one sample more, which says what grows by how
    much. Where it does not run on another batch, its batch is no symbol.
    """
    batch = next(
        (x.shape[0] for x in example_inputs if isinstance(x, Tensor) and x.dim()), 1
    )
    larger = [
        torch.cat([x, x[:1]]) if _has_batch(x, batch) else x for x in example_inputs
    ]
    run = _Sizes(graph_module)
    try:
        with torch.no_grad():
            run.run(*larger)
    except Exception:  # whatever a network raises that has its batch written in
        run.found = {}
    for node in graph_module.graph.nodes:
        meta = node.meta.get("tensor_meta", node.meta.get("number"))
        found = _sizes(meta)
        grown = run.found.get(node, found)
        node.meta[SIZES] = _symbolic(found, grown, batch)
    return batch


def _has_batch(x: Any, batch: int) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == batch


class _Sizes(fx.Interpreter):
    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op != "output":
            self.found[n] = _sizes(result)
        return result


def _sizes(value: Any) -> Any:
    if hasattr(value, "shape"):
        return torch.Size(value.shape)
    if isinstance(value, list | tuple):
        return tuple(_sizes(item) for item in value)
    return value


def _symbolic(found: Any, grown: Any, batch: int) -> Any:
    if isinstance(found, tuple) and isinstance(grown, tuple):
        return tuple(_symbolic(a, b, batch) for a, b in zip(found, grown))
    return _dim(found, grown, batch) if _is_size(found) and _is_size(grown) else found


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _dim(found: int, grown: int, batch: int) -> Dim:
    """The line through a size at this batch and at one more."""
    slope = grown - found
    rest = found - slope * batch
    size = BATCH * slope
    return size + rest if rest >= 0 else size - -rest
