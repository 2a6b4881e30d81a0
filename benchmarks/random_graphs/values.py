"""Numbers for the inputs of a graph, and what its instructions make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.interpreter import evaluate

# Inputs whose name begins so are positive: scales, shares, probabilities.
POSITIVE = "p"
HALF_RTOL = 2e-3
_FLOATS = ("float32", "float16", "float64")


def inputs_of(graph: Graph, seed: int = 0) -> dict[str, Tensor]:
    """Inputs in the graph's dtypes."""
    return {v.name: numbers(v, seed) for v in graph.inputs}


def numbers(value: Input, seed: int = 0) -> Tensor:
    """Normal numbers, those between 1/2 and 3/2, or indices; by name and seed alone.

    Indices ``i5_2`` are below 5.
    """
    generator = torch.Generator().manual_seed(crc32(f"{seed} {value.name}".encode()))
    shape = [int(dim) for dim in value.type.shape]  # type: ignore[arg-type]
    dtype = getattr(torch, value.type.dtype)
    if value.type.dtype not in _FLOATS:
        rows = int(value.name[1:].split("_")[0])
        return torch.randint(0, rows, shape, generator=generator, dtype=dtype)
    if value.name.startswith(POSITIVE):
        return (torch.rand(shape, generator=generator) + 0.5).to(dtype)
    return torch.randn(shape, generator=generator).to(dtype)


def applied(node: Node, operands: Sequence[Any], like: Tensor) -> Any:
    """The result of one instruction."""
    reference = node.declaration.reference
    if not node.operands:
        extra = {"like": like} if node.declaration.like else {}
        return reference(**node.attrs, **extra)
    if all(isinstance(operand, float) for operand in operands):
        operands = [torch.tensor(x, dtype=torch.float64) for x in operands]
    return reference(*operands, **node.attrs)


def in_double(graph: Graph) -> Graph:
    """The graph whose casts to fewer digits are casts to double precision."""

    def change(key: str, value: Any) -> Any:
        if isinstance(value, Graph):
            return in_double(value)
        return "float64" if key == "dtype" and value in _FLOATS else value

    nodes = [
        replace(node, attributes=tuple((k, change(k, v)) for k, v in node.attributes))
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def as_double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def outputs(graph: Graph, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The parts of the output, in the precision of the values."""
    with torch.no_grad():
        found = evaluate(graph, values)
    return found if isinstance(found, tuple) else (found,)


def exact_outputs(graph: Graph, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """:func:`outputs` in double precision throughout."""
    doubles = {name: as_double(x) for name, x in values.items()}
    return outputs(in_double(graph), doubles)


def rtol_of(graph: Graph) -> float:
    """The largest tolerance of its instructions."""
    found = [rtol_of(body) for body in graph.bodies]
    found += [node.declaration.rtol for node in graph.nodes]
    if any(t.dtype == "float16" for t in graph.types.values()):
        found.append(HALF_RTOL)
    return max(found, default=0.0)
