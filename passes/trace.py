"""nn.Module -> GraphModule with shapes on every node."""

from __future__ import annotations

import copy
import inspect
import logging
import traceback
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from gos_fx.errors import BadExampleInputs, UntraceableModel
from gos_fx.passes.nested import largest_difference
from gos_fx.passes.plain_forward import plain_forward
from gos_fx.passes.replace_in_place import replace_in_place
from gos_fx.passes.separate_calls import separate_calls
from gos_fx.passes.source import SOURCE
from gos_fx.passes.take_apart import take_apart

logger = logging.getLogger("gos_fx")

ExampleInputs = tuple[Any, ...]
TOLERANCE = 1e-4  # of the output's scale, between a model and its trace
UNTRACED = "gos_untraced"  # GraphModule.meta: module -> why it was left opaque


def trace(model: nn.Module, example_inputs: ExampleInputs) -> fx.GraphModule:
    """A traced copy of ``model``; ``node.meta["tensor_meta"]`` holds shapes.

    Each call of a layer without weights gets a module and a name of its own, and what
    works in place no longer does.
    Torch's transformers are traced as the layers that they are made of.
    A submodule that torch.fx cannot trace stays as it is, as one opaque node; its
    name and the reason are in ``meta["gos_untraced"]``.

    Raises:
        UntraceableModel: the outermost ``forward`` cannot be traced, or the trace does
            not compute what the model does.
        BadExampleInputs: the model does not run on the inputs.
    """
    original = model
    output = run_once(model, example_inputs)
    model = copy.deepcopy(model)
    if (plain := plain_forward(model)) is not None:
        # of the outermost module torch.fx takes the forward of its class
        kind = type(model)
        model.__class__ = type(kind.__name__, (kind,), {"forward": plain})
    opaque: dict[str, str] = {}
    while True:
        tracer = _Tracer(frozenset(opaque))
        try:
            graph = tracer.trace(model, _unused_arguments(model, example_inputs))
            break
        # torch.fx surfaces whatever the traced code raises: any type is possible.
        except Exception as error:
            if not tracer.failed:
                raise _untraceable(model, error) from error
            opaque[tracer.failed] = f"{_reason(error)} at {_line(error, model)}"
            logger.warning(
                "%s stays as it is: %s", tracer.failed, opaque[tracer.failed]
            )
    traced = fx.GraphModule(model, _plain(graph), type(model).__name__)
    separate_calls(traced)
    replace_in_place(traced, example_inputs)
    traced.meta[UNTRACED] = opaque
    found = propagate_shapes(traced, example_inputs)
    take_apart(traced)
    difference = largest_difference(found, output)
    if difference > TOLERANCE and _repeats(original, example_inputs, output):
        raise UntraceableModel(
            f"its trace computes something else: outputs differ by {difference:.1g}",
            where=f"{type(original).__name__}.forward",
            do="look for tensors changed in place under another name, and for values "
            "that depend on state outside the model",
        )
    return traced


def _repeats(model: nn.Module, inputs: ExampleInputs, output: Any) -> bool:
    """Whether the model gives the same again; a random one cannot be compared."""
    return largest_difference(run_once(model, inputs), output) <= TOLERANCE


def _plain(graph: fx.Graph) -> fx.Graph:
    """A copy that pickles without this module: no tracer class, no annotations that
    are still strings, and no tests of arguments that were fixed: with one of those,
    unpickling leaves fx unable to trace anything."""
    plain = fx.Graph()
    plain.output(plain.graph_copy(graph, {}))
    for node in reversed(plain.nodes):
        if isinstance(node.type, str):
            node.type = None
        if getattr(node.target, "__name__", "") == "_assert_is_none":
            plain.erase_node(node)
    return plain


def run_once(model: nn.Module, example_inputs: ExampleInputs) -> Any:
    """Output of the model without gradients.

    Raises:
        BadExampleInputs: with the message of the layer that refused.
    """
    try:
        with torch.no_grad():
            return model(*example_inputs)
    except Exception as error:  # whatever the user's forward raises on these inputs
        shapes = [
            tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            for x in example_inputs
        ]
        raise BadExampleInputs(
            f"the model does not run on inputs of shape {shapes}: {_reason(error)}",
            where=_line(error, model),
            do="pass example_inputs= as the model takes them",
        ) from error


def propagate_shapes(graph_module: fx.GraphModule, example_inputs: Any) -> Any:
    """Run once, note on every node the shape and type of its tensors, or its
    ``number`` if it gives sizes, and give the output."""
    with torch.no_grad():
        return _Shapes(graph_module).propagate(*example_inputs)


class _Shapes(ShapeProp):
    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, int | float | torch.Size | torch.dtype | torch.device):
            n.meta["number"] = result
        return result


def as_arguments(model: nn.Module, example_inputs: Any) -> ExampleInputs:
    """Positional arguments from a tensor, a sequence, or a dict by parameter name.

    Raises:
        BadExampleInputs: a name that ``forward`` does not have, or one that it needs
            is missing.
    """
    if isinstance(example_inputs, Mapping):
        parameters = list(inspect.signature(model.forward).parameters.values())
        if unknown := set(example_inputs) - {p.name for p in parameters}:
            raise BadExampleInputs(
                f"forward has no parameter {sorted(unknown)[0]}",
                where="example_inputs",
                do=f"use {', '.join(p.name for p in parameters)}",
            )
        arguments = []
        for p in parameters:
            if p.name in example_inputs:
                arguments.append(example_inputs[p.name])
            elif p.default is not p.empty:
                arguments.append(p.default)
            elif p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                raise BadExampleInputs(
                    f"forward needs {p.name}",
                    where="example_inputs",
                    do=f"give {p.name} an example too",
                )
        while arguments and arguments[-1] is None:
            arguments.pop()
        return tuple(arguments)
    if isinstance(example_inputs, list | tuple):
        return tuple(example_inputs)
    return (example_inputs,)


class _Tracer(fx.Tracer):
    """Remembers the innermost module whose forward could not be traced."""

    def __init__(self, opaque: frozenset[str]) -> None:
        super().__init__()
        self.opaque = opaque
        self.failed = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.opaque or hasattr(m, SOURCE):
            return True
        if plain_forward(m) is not None:
            return False
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if (plain := plain_forward(m)) is not None:
            forward = partial(plain, m)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or self.path_of_module(m)
            raise


def _unused_arguments(model: nn.Module, inputs: ExampleInputs) -> dict[str, Any]:
    """Parameters beyond the example inputs, and inputs that are no tensors, fixed."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    fixed = {
        p.name: p.default for p in parameters[len(inputs) :] if p.default is not p.empty
    }
    for p, value in zip(parameters, inputs, strict=False):
        if value is None or isinstance(value, bool | int | float | str):
            fixed[p.name] = value
    return fixed


def _untraceable(model: nn.Module, error: Exception) -> UntraceableModel:
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    parts = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return UntraceableModel(
        f"torch.fx cannot trace {type(model).__name__}.forward: {_reason(error)}",
        where=_line(error, model),
        do="move the control flow that depends on tensor values into a submodule, "
        + (f"so that {parts} can be optimized" if names else "which is left as it is"),
    )


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def _line(error: Exception, model: nn.Module) -> str:
    """``file:line`` of the innermost frame outside torch and gos_fx."""
    package = __name__.partition(".")[0]
    frames = [
        frame
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0]
        not in ("torch", package)
    ]
    lines = dict(traceback.walk_tb(error.__traceback__))
    if not frames:
        return f"{type(model).__name__}.forward"
    frame = frames[-1]
    owner = frame.f_locals.get("self")
    name = type(owner).__name__ if isinstance(owner, nn.Module) else ""
    code = frame.f_code
    where = f"{code.co_filename}:{lines[frame]}"
    return f"{name}.{code.co_name}, {where}" if name else where
