"""Runs a concrete graph on tensors: the meaning of every other form of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.ir.fusion import aggregates_channels
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.types import FLOATS

# Largest float32 intermediate that a chain without a summed form may materialise.
MATERIALISE_BYTES = 256 << 20


# What one instruction gives for its operands; ``like`` is the graph's first
# input of floating-point numbers.
Compute = Callable[[Node, Sequence[Any], Any], Any]


def by_reference(node: Node, operands: Sequence[Any], like: Any) -> Any:
    """What depends on no operand is made where, and of the type of which, ``like``
    is."""
    reference = node.declaration.reference
    if node.declaration.like:
        return reference(*operands, **node.attrs, like=like)
    return reference(*operands, **node.attrs)


def evaluate(
    graph: Graph, values: Mapping[str, Tensor], compute: Compute = by_reference
) -> Any:
    """Output of a concrete graph for tensors by input name: a tensor, or a tuple of
    them where the output is a bundle.

    Scalars are numbers of Python, so that nothing is rounded before it meets a tensor.
    A cross-correlation whose only reader sums, averages or weighs its maps over the
    input channels is one convolution; its maps are never stored.

    Raises:
        VerifyError: an input is missing, or another aggregation would store more than
            ``MATERIALISE_BYTES``.
    """
    environment: dict[str, Any] = {}
    for declared in graph.inputs:
        if declared.name not in values:
            raise VerifyError(f"no value for input {declared.name}", graph.name)
        environment[declared.name] = values[declared.name]
    for node in graph.nodes:
        if not (is_summed(graph, node) or is_biased(graph, node)):
            environment[node.name] = _run(graph, node, environment, compute)
    return environment[graph.output]


def channel_sum(
    node: Node,
    maps: Node,
    x: Tensor,
    w: Tensor,
    *gains: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """The aggregation ``node`` of a cross-correlation ``maps``, as one convolution."""
    if node.opcode == "weighted_mean":
        (gain,) = gains
        w = w * (gain / gain.sum()).view(1, -1, 1, 1)
    assert maps.declaration.summed is not None
    total: Tensor = maps.declaration.summed(x, w, bias, **maps.attrs)
    return total / w.shape[1] if node.opcode == "mean" else total


def is_summed(graph: Graph, node: Node) -> bool:
    """Maps that only their aggregation reads: that computes both."""
    users = graph.users[node.name]
    return (
        node.opcode == "cross_correlation"
        and len(users) == 1
        and node.name != graph.output
        and aggregates_channels(users[0], node)
    )


def is_biased(graph: Graph, node: Node) -> bool:
    """A channel sum that only the addition of a bias reads: that computes all three."""
    users = graph.users[node.name]
    if node.opcode != "sum" or len(users) != 1 or node.name == graph.output:
        return False
    maps = graph.by_name.get(node.operands[0])
    (user,) = users
    return (
        maps is not None
        and is_summed(graph, maps)
        and user.opcode == "add"
        and user.operands[0] == node.name
        and user.operands[1] in {v.name for v in graph.weights if v.type.rank == 1}
    )


def _run(
    graph: Graph, node: Node, environment: dict[str, Any], compute: Compute
) -> Any:
    first = graph.by_name.get(node.operands[0]) if node.operands else None
    if first is not None and is_biased(graph, first):
        maps = graph.by_name[first.operands[0]]
        operands = [environment[name] for name in maps.operands]
        return channel_sum(first, maps, *operands, bias=environment[node.operands[1]])
    if first is not None and is_summed(graph, first):
        operands = [environment[name] for name in (*first.operands, *node.operands[1:])]
        return channel_sum(node, first, *operands)
    if node.opcode == "cross_correlation":
        _check_size(node)
    operands = [environment[name] for name in node.operands]
    like = environment[_floating(graph)]
    numbers = bool(operands) and all(isinstance(x, float) for x in operands)
    if not numbers or node.type.is_bundle:
        return compute(node, operands, like)
    operands = [torch.tensor(o, dtype=torch.float64) for o in operands]
    found = compute(node, operands, like)
    # Of numbers comes a number: a tensor would take part in the choice of a dtype.
    return found.item() if isinstance(found, Tensor) and not found.dim() else found


def _floating(graph: Graph) -> str:
    """The first input that is no index."""
    names = [v.name for v in graph.inputs if v.type.dtype in FLOATS]
    return (names or [graph.inputs[0].name])[0]


def _check_size(node: Node) -> None:
    elements = node.type.elements
    if isinstance(elements, int) and 4 * elements > MATERIALISE_BYTES:
        raise VerifyError(
            f"its maps take {4 * elements >> 20} MiB, at most "
            f"{MATERIALISE_BYTES >> 20} MiB",
            where=node.name,
            do="sum, average or weigh them over ci, which stores none",
        )


def outputs_like(graph: Graph, like: Tensor) -> list[Tensor]:
    """Empty tensors of the types of the output, or of its parts, where ``like`` is.

    ``like`` is the first input, which may be float64 where float32 is declared.
    """
    first, found = graph.inputs[0].type.dtype, []
    for value in graph.result.values:
        shape = [int(dim) for dim in value.shape if isinstance(dim, int)]
        same = value.dtype == first
        dtype = like.dtype if same else getattr(torch, value.dtype)
        found.append(torch.empty(shape, dtype=dtype, device=like.device))
    return found
