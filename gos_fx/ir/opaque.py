"""``torch.ops.gos_fx.operator``: an operator that the compiler must not look into.

``operator_bundle`` is the same for operators with several results. In a network that
goes to the code generator such operators are one call each, so that their kernels are
made from the instruction graph and not from exported torch code.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate, outputs_like
from gos_fx.ir.parser import parse


@lru_cache(maxsize=1024)
def parsed(text: str) -> Graph:
    """The graph of a text, parsed once."""
    return parse(text)


@torch.library.custom_op("gos_fx::operator", mutates_args=())
def operator(graph: str, inputs: list[Tensor]) -> Tensor:
    """Value of a concrete graph; ``inputs`` in the order of ``graph.inputs``."""
    result: Tensor = _value(graph, inputs)
    return result.clone()


@operator.register_fake
def _(graph: str, inputs: list[Tensor]) -> Tensor:
    (result,) = outputs_like(parsed(graph), inputs[0])
    return result


@torch.library.custom_op("gos_fx::operator_bundle", mutates_args=())
def operator_bundle(graph: str, inputs: list[Tensor]) -> list[Tensor]:
    """:func:`operator` of a graph whose output is a bundle."""
    return [part.clone() for part in _value(graph, inputs)]


@operator_bundle.register_fake
def _(graph: str, inputs: list[Tensor]) -> list[Tensor]:
    return outputs_like(parsed(graph), inputs[0])


def _value(graph: str, inputs: list[Tensor]) -> Any:
    instructions = parsed(graph)
    names = [value.name for value in instructions.inputs]
    return evaluate(instructions, dict(zip(names, inputs, strict=True)))


def call(graph: Graph, values: list[Tensor]) -> list[Tensor]:
    """The results of a concrete graph, one or the parts of its bundle, by one call."""
    if graph.result.is_bundle:
        parts: list[Tensor] = torch.ops.gos_fx.operator_bundle(graph.text, values)
        return parts
    return [torch.ops.gos_fx.operator(graph.text, values)]
