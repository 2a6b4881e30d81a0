"""What of an operator the compiler takes from its instruction graph.

The rest of a network reaches it as torch code, which its importer knows well.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx, nn

from gos_fx.ir.graph import Graph
from gos_fx.passes.operators import Operator, operator_of
from gos_fx.passes.source import SOURCE

_HEADS = (
    *(nn.Conv1d, nn.ConvTranspose1d, nn.ConvTranspose2d),
    *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten),
)
# Behind one of these: whose instructions are as good as what the importer makes.
_FOLLOWERS = (
    *(nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.ReLU6),
    *(nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Identity, nn.Dropout, nn.Dropout2d),
)
_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
# A setting of a layer that needs others (borders that mirror, uneven windows) is
# torch's.
_PLAIN = frozenset(
    (
        *("cross_correlation", "reshape", "sum", "add", "sub", "hadamard", "div"),
        *("sqrt", "max", "min", "relu", "sigmoid", "tanh", "scalar"),
        *("max_pool", "avg_pool"),
    )
)
_PRODUCT = _PLAIN | {"matmul", "transpose"}
_SPREAD = _PLAIN | {"pad"}
_ALLOWED = {
    nn.Linear: _PRODUCT,
    nn.AdaptiveAvgPool2d: _PRODUCT,
    nn.ConvTranspose1d: _SPREAD,
    nn.ConvTranspose2d: _SPREAD,
}


def compiled_parts(
    graph_module: fx.GraphModule, operators: Sequence[Operator]
) -> tuple[Operator, ...]:
    """The operators, as far as they are compiled from their graphs: recurrent layers,
    those that were emitted or whose template is not their layers', and of all others
    the convolution, product, norm or pooling with the plain activation behind it."""
    found = (compiled_part(graph_module, operator) for operator in operators)
    return tuple(part for part in found if part is not None)


def compiled_part(graph_module: fx.GraphModule, operator: Operator) -> Operator | None:
    """:func:`compiled_parts` of one operator."""
    if operator.template is None or not operator.modules:
        return None
    first, *rest = _layers(graph_module, operator)
    if not operator.own or type(first) in _RECURRENT or hasattr(first, SOURCE):
        return operator
    if type(first) not in _HEADS:
        return None
    length = 1
    for layer in rest:
        if type(layer) not in _FOLLOWERS:
            break
        length += 1
    if length < len(operator.nodes):
        operator = operator_of(graph_module, operator.nodes[:length])
    allowed = _ALLOWED.get(type(first), _PLAIN)
    return operator if _opcodes(operator.template) <= allowed else None


def _layers(graph_module: fx.GraphModule, operator: Operator) -> list[nn.Module]:
    nodes = {node.name: node for node in graph_module.graph.nodes}
    calls = (nodes[name] for name in operator.nodes)
    return [
        graph_module.get_submodule(str(node.target))
        for node in calls
        if node.op == "call_module"
    ]


def _opcodes(template: Graph | None) -> set[str]:
    return {node.opcode for node in template.nodes} if template else {""}
