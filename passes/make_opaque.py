"""GraphModule -> GraphModule whose operators are calls that export does not open."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from gos_fx.ir import opaque  # noqa: F401  (declares torch.ops.gos_fx.operator)
from gos_fx.passes.compiled_part import compiled_parts
from gos_fx.passes.emit import replace_operators
from gos_fx.passes.fold_batch_norm import fold_batch_norm
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.trace import ExampleInputs, trace


class OpaqueOperator(nn.Module):
    """One call of ``torch.ops.gos_fx.operator``, or of ``operator_bundle`` where there
    are several results, with weights of its own."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.graph = operator.concrete.text
        self.is_bundle = operator.concrete.result.is_bundle
        self.names = tuple(v.name for v in operator.concrete.weights)
        for name in self.names:
            self.register_buffer(f"weight_{name}", operator.weights[name].detach())

    def forward(self, *maps: Tensor) -> Any:
        weights = [getattr(self, f"weight_{name}") for name in self.names]
        if self.is_bundle:
            return torch.ops.gos_fx.operator_bundle(self.graph, [*maps, *weights])
        return torch.ops.gos_fx.operator(self.graph, [*maps, *weights])


def make_opaque(model: nn.Module, example_inputs: ExampleInputs) -> fx.GraphModule:
    """The form that the code generator takes: exact rewrites done, every operator
    that is compiled from its instruction graph one opaque call, at the example's batch
    size.

    Raises:
        UntraceableModel, BadExampleInputs: as :func:`gos_fx.passes.trace.trace`.
        VerifyError: the code of an emitted operator was edited.
    """
    traced = trace(model, example_inputs)
    fold_batch_norm(traced)
    parts = compiled_parts(traced, find_operators(traced))
    return replace_operators(traced, [(op, OpaqueOperator(op)) for op in parts])
