"""What an exported program says of its values and calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from tvm import relax

# Rules know these as they are; torch would take them apart.
_KEPT = (
    *("linear.default", "layer_norm.default", "scaled_dot_product_attention.default"),
    *("hardswish.default", "hardsigmoid.default", "silu.default"),
    *("max_pool2d.default", "adaptive_avg_pool2d.default", "matmul.default"),
    "softmax.int",
)


def decompositions() -> dict[Any, Any]:
    """Those of torch, but for the operators that rules know as they are."""
    table = torch.export.default_decompositions()
    for name in _KEPT:
        packet, _, overload = name.partition(".")
        table.pop(getattr(getattr(torch.ops.aten, packet), overload), None)
    return dict(table)


def has_sparse(program: torch.export.ExportedProgram) -> bool:
    """Whether a weight is sparse; torch decomposes no such program."""
    tensors = [*program.state_dict.values(), *program.constants.values()]
    return any(isinstance(t, Tensor) and t.layout != torch.strided for t in tensors)


def bound_tensors(program: torch.export.ExportedProgram) -> dict[str, Tensor]:
    """Parameters, buffers and constants by the names of their placeholders."""
    found = {}
    for spec in program.graph_signature.input_specs:
        target = spec.target
        tensor = program.state_dict.get(target, program.constants.get(target))
        if target is not None and isinstance(tensor, Tensor):
            found[spec.arg.name] = tensor.detach()
    return found


def constant(tensor: Tensor) -> Any:
    """A tensor as an expression of Relax."""
    return relax.const(tensor.detach().contiguous().numpy())


def shapes(value: Any) -> Any:
    """Shape of a result, or a list of those of several.

    None where no rule applies: sizes that are not known, numbers that are not float32.
    """
    if isinstance(value, tuple | list):
        each = [tuple(x.shape) if isinstance(x, Tensor) else None for x in value]
        return each if value and shapes(value[0]) is not None else None
    if not isinstance(value, Tensor) or value.dtype != torch.float32:
        return None
    sizes = tuple(value.shape)
    known = all(isinstance(size, int) and size > 0 for size in sizes)
    return sizes if known and sizes else None


def owner(node: fx.Node) -> str:
    """Path of the module that called, or the node's name."""
    stack = node.meta.get("nn_module_stack", {})
    path = list(stack.values())[-1][0] if stack else ""
    return path or node.name
