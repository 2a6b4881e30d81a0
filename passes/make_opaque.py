"""GraphModule -> GraphModule whose operators are calls that export does not open."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from gos_fx.ir import opaque  # noqa: F401  (declares torch.ops.gos_fx.operator)
from gos_fx.passes.emit import replace_operators
from gos_fx.passes.fold_batch_norm import fold_batch_norm
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.trace import ExampleInputs, trace


class OpaqueOperator(nn.Module):
    """One call of ``torch.ops.gos_fx.operator`` with its own weights."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.graph = operator.concrete.text
        self.names = tuple(v.name for v in operator.concrete.weights)
        for name in self.names:
            self.register_buffer(f"weight_{name}", operator.weights[name].detach())

    def forward(self, x: Tensor) -> Tensor:
        weights = [getattr(self, f"weight_{name}") for name in self.names]
        result: Tensor = torch.ops.gos_fx.operator(self.graph, [x, *weights])
        return result


def make_opaque(model: nn.Module, example_inputs: ExampleInputs) -> fx.GraphModule:
    """The form that the code generator takes: exact rewrites done, every operator
    that has an instruction graph one opaque call, at the example's batch size.

    Raises:
        UntraceableModel, BadExampleInputs: as :func:`gos_fx.passes.trace.trace`.
        VerifyError: the code of an emitted operator was edited.
    """
    traced = trace(model, example_inputs)
    fold_batch_norm(traced)
    lowered = [op for op in find_operators(traced) if op.template is not None]
    return replace_operators(traced, [(op, OpaqueOperator(op)) for op in lowered])
