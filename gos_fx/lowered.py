"""A whole model as instruction graphs, and back as a GraphModule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from gos_fx.errors import BadOption
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.separate_calls import separate_calls
from gos_fx.passes.sizes import note_sizes
from gos_fx.passes.take_apart import take_apart
from gos_fx.passes.trace import ExampleInputs, trace

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Coverage:
    """How much of a model has instruction graphs.

    Attributes:
        operators: how many there are.
        missing: reasons by the names of those that have none.
    """

    operators: int
    missing: dict[str, str]

    @property
    def share(self) -> float:
        """Of the operators that have a graph; 1 where there are none."""
        return 1.0 - len(self.missing) / self.operators if self.operators else 1.0

    def __str__(self) -> str:
        lowered = self.operators - len(self.missing)
        lines = [f"{lowered} of {self.operators} operators lowered ({self.share:.1%})"]
        lines += [f"  {name}: {reason}" for name, reason in self.missing.items()]
        return "\n".join(lines)


class LoweredModel:
    """What :func:`gos_fx.lower` gives. ``str()`` shows the graphs.

    Attributes:
        network: the traced model, whose nodes the operators name.
        operators: in order of execution, modules and the functions between them.
    """

    def __init__(self, network: fx.GraphModule, operators: Sequence[Operator]) -> None:
        self.network, self.operators = network, tuple(operators)

    @property
    def coverage(self) -> Coverage:
        missing = {op.name: op.reason for op in self.operators if op.template is None}
        return Coverage(len(self.operators), missing)

    def __str__(self) -> str:
        """Every operator's graph at its site: which nodes go in and come out above it,
        what has no graph as a comment."""
        return "\n\n".join(map(_show, self.operators))

    def print(self) -> None:
        print(self)

    def to_graph_module(self) -> fx.GraphModule:
        """The model in eval mode with every lowered operator as plain torch calls.

        Any batch size is accepted, where the model itself takes any. What shared a
        weight in the model shares it here.
        """
        pairs = [
            (op, emit_operator(op.template, op.bindings, op.weights))
            for op in self.operators
            if op.template is not None
        ]
        _tie(pairs)
        return replace_operators(self.network, pairs).eval()

    def to_onnx(self, path: str | Path | None = None) -> ModelProto:
        """The model in ONNX's standard operators, weights inside; written to ``path``
        if there is one.

        Inputs are called as the parameters of ``forward``, outputs ``output``, or
        ``output_0`` and so on. The batch size is open where all graphs take any.

        Raises:
            Unsupported: the outputs depend on an operator without a graph, or on an
                instruction without a form in ONNX.
            BadOption: ``path`` cannot be written.
        """
        from gos_fx.passes.onnx.model import network_to_onnx

        model = network_to_onnx(self.network, self.operators)
        if path is not None:
            try:
                Path(path).write_bytes(model.SerializeToString())
            except OSError as error:
                raise BadOption(error.strerror or str(error), str(path)) from error
        return model


def lower_model(model: nn.Module, example_inputs: ExampleInputs) -> LoweredModel:
    """:func:`gos_fx.lower` of arguments by position.

    Raises:
        UntraceableModel, BadExampleInputs: as :func:`gos_fx.passes.trace.trace`.
    """
    traced = trace(model, example_inputs)
    separate_calls(traced, tied=True)
    take_apart(traced, functions=True)
    note_sizes(traced, example_inputs)
    return LoweredModel(traced, find_operators(traced, functions=True))


def _show(operator: Operator) -> str:
    flow = f"{', '.join(operator.inputs)} -> {', '.join(operator.outputs)}"
    head = f"# {operator.name}: {flow}"
    if operator.template is None:
        return f"{head}\n# no instruction graph: {operator.reason}"
    return f"{head}\n{operator.concrete}"


def _tie(pairs: Sequence[tuple[Operator, fx.GraphModule]]) -> None:
    """One parameter for what was one tensor."""
    seen: dict[Any, Tensor] = {}
    for operator, module in pairs:
        for name, parameter in list(module.named_parameters()):
            weight = operator.weights[name]
            key = (weight.data_ptr(), weight.shape, weight.stride())
            setattr(module, name, seen.setdefault(key, parameter))
