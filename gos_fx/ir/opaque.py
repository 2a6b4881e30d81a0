"""``torch.ops.gos_fx.operator``: an operator that the compiler must not look into.

In a network that goes to the code generator every operator is one such call, so that
its kernels are made from the instruction graph and not from exported torch code.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate, output_like
from gos_fx.ir.parser import parse


@lru_cache(maxsize=1024)
def parsed(text: str) -> Graph:
    """The graph of a text, parsed once."""
    return parse(text)


@torch.library.custom_op("gos_fx::operator", mutates_args=())
def operator(graph: str, inputs: list[Tensor]) -> Tensor:
    """Value of a concrete graph; ``inputs`` in the order of ``graph.inputs``."""
    instructions = parsed(graph)
    names = [value.name for value in instructions.inputs]
    return evaluate(instructions, dict(zip(names, inputs, strict=True))).clone()


@operator.register_fake
def _(graph: str, inputs: list[Tensor]) -> Tensor:
    return output_like(parsed(graph), inputs[0])
