"""A traced network as a list of operators, each with its instruction template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import getitem

from torch import Tensor, fx, nn

from gos_fx.errors import Unsupported
from gos_fx.ir.dim import Expr
from gos_fx.ir.graph import Graph
from gos_fx.passes import lowerings  # noqa: F401  (fills the table)
from gos_fx.passes.calls import called, dtype_of, shape_of, taken_out
from gos_fx.passes.fold_batch_norm import MEMBERS
from gos_fx.passes.functional import is_fixed, lower_function
from gos_fx.passes.lower import (
    Lowered,
    is_activation,
    is_lowered,
    is_whole,
    lower_call,
    lower_modules,
)
from gos_fx.passes.source import Source, source_of
from gos_fx.passes.trace import UNTRACED

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_HEADS = (
    *(nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear),
    *_NORMS,
)


@dataclass(frozen=True)
class Operator:
    """Layers that compute together: convolution, batch norm and activation are one.

    ``name`` is the qualified name of the leading module, or of a function's FX node,
    ``nodes`` the FX nodes in order, the call first, ``modules`` all members, folded
    batch norms included.
    ``template`` with ``bindings`` is the instruction graph at this site and
    ``weights`` its tensors by input name. What has no lowering has no template, and
    ``reason`` says why. ``inputs`` are the FX nodes that stand for the template's maps,
    ``outputs`` those that carry its result, or the parts of the bundle that it gives.
    ``own`` says that the template is the modules', not one to be put in their place.
    """

    name: str
    nodes: tuple[str, ...]
    modules: tuple[str, ...]
    template: Graph | None = None
    bindings: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    reason: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    own: bool = True

    @property
    def parameters(self) -> int:
        """Count of trainable weights."""
        return sum(
            w.numel()
            for name, w in self.weights.items()
            if self.template is not None and self.template.types[name].role == "weight"
        )

    @property
    def refusal(self) -> str:
        """Why a search cannot replace it; empty for one that computes one feature map
        from one."""
        graph = self.template
        if graph is None:
            return self.reason or "it has no instruction graph"
        if len(graph.maps) != 1:
            return f"it takes {len(graph.maps)} feature maps"
        if graph.result.is_bundle:
            return f"it gives {len(graph.result.parts)} feature maps"
        if graph.maps[0].type.dtype != "float32":
            return f"it takes {graph.maps[0].type}"
        return "" if graph.nodes else "it computes nothing"

    @property
    def output(self) -> str:
        """The FX node that carries its one result."""
        return self.outputs[0] if self.outputs else self.nodes[-1]

    @cached_property
    def concrete(self) -> Graph:
        """The instruction graph with this site's sizes.

        Raises:
            Unsupported: the operator has no lowering.
        """
        if self.template is None:
            raise Unsupported(self.reason, where=self.name)
        return self.template.instantiate(self.bindings)


def find_operators(
    graph_module: fx.GraphModule, *, functions: bool = False
) -> tuple[Operator, ...]:
    """The operators of a traced network with shapes, in order of execution.

    Every ``call_module`` belongs to exactly one operator. With ``functions`` every call
    of a function or method that gives maps does too, and :func:`note_sizes
    <gos_fx.passes.sizes.note_sizes>` must have run; what is computed from weights alone
    is part of the operators that read it.
    """
    modules = dict(graph_module.named_modules(remove_duplicate=False))
    calls = Counter(n.target for n in graph_module.graph.nodes if n.op == "call_module")
    members = graph_module.meta.get(MEMBERS, {})
    taken: set[str] = set()
    found = []
    for node in graph_module.graph.nodes:
        if node.name in taken:
            continue
        if node.op == "call_module":
            operator = _operator(_chain(node, modules), modules, calls, members)
        elif functions and _gives_maps(node):
            operator = _functional(node, modules)
        else:
            continue
        taken.update(operator.nodes)
        found.append(operator)
    return tuple(found)


def operator_of(graph_module: fx.GraphModule, nodes: Sequence[str]) -> Operator:
    """One operator of these calls of modules in a row."""
    modules = dict(graph_module.named_modules(remove_duplicate=False))
    by_name = {node.name: node for node in graph_module.graph.nodes}
    members = graph_module.meta.get(MEMBERS, {})
    return _operator([by_name[name] for name in nodes], modules, Counter(), members)


def _gives_maps(node: fx.Node) -> bool:
    """Whether a call computes maps: no sizes, weights or parts of another's result."""
    if node.op not in ("call_function", "call_method") or not node.all_input_nodes:
        return False
    meta = node.meta.get("tensor_meta")
    source = node.all_input_nodes[0].meta.get("tensor_meta")
    is_part = node.target is getitem and source and not hasattr(source, "shape")
    return bool(meta) and not (is_part or is_fixed(node))


def _functional(node: fx.Node, modules: Mapping[str, nn.Module]) -> Operator:
    name, index = node.name, 1
    while name in modules:
        name, index = f"{node.name}_{index}", index + 1
    inputs = tuple(source.name for source in node.all_input_nodes)
    operator = Operator(name, (node.name,), (), inputs=inputs, outputs=(node.name,))
    try:
        found = lower_function(node, modules[""])
    except Unsupported as refusal:
        return replace(operator, reason=refusal.what)
    return replace(
        _with(operator, found.graph),
        nodes=found.nodes,
        inputs=found.inputs,
        outputs=found.outputs,
    )


def _chain(node: fx.Node, modules: Mapping[str, nn.Module]) -> list[fx.Node]:
    """The node, a batch norm behind it, and the activation behind that."""
    chain = [node]
    if not isinstance(modules[str(node.target)], _HEADS):
        return chain
    for wanted in (lambda m: isinstance(m, _NORMS), is_activation):
        users = list(chain[-1].users)
        if len(users) != 1 or users[0].op != "call_module":
            continue
        if wanted(modules[str(users[0].target)]):
            chain.append(users[0])
    return chain


def _operator(
    chain: list[fx.Node],
    modules: Mapping[str, nn.Module],
    calls: Counter[object],
    members: Mapping[str, list[str]],
) -> Operator:
    first, last = chain[0], chain[-1]
    names = tuple(str(node.target) for node in chain)
    everyone = tuple(m for name in names for m in (name, *members.get(name, ())))
    operator = Operator(
        names[0],
        tuple(node.name for node in chain),
        everyone,
        inputs=tuple(node.name for node in first.all_input_nodes),
        outputs=(last.name,),
    )
    layers = [modules[name] for name in names]
    try:
        if (source := source_of(layers[0])) is not None:
            return _emitted(operator, first, layers[0], source)
        if calls[names[0]] > 1 and any(True for _ in layers[0].parameters()):
            raise Unsupported("it is called more than once with the same weights")
        if not all(is_lowered(layer) for layer in layers):
            reason = f"{type(layers[0]).__name__} has no lowering"
            why = getattr(modules[""], "meta", {}).get(UNTRACED, {}).get(names[0])
            raise Unsupported(f"{reason}: {why}" if why else reason)
        if is_whole(layers[0]):
            return _whole(operator, first, layers[0])
        return _with(operator, lower_modules(layers, _shapes(chain), _dtype(first)))
    except Unsupported as refusal:
        return replace(operator, reason=refusal.what)


def _with(operator: Operator, found: Lowered) -> Operator:
    return replace(
        operator,
        template=found.template,
        bindings=found.bindings,
        weights=found.weights,
    )


def _whole(operator: Operator, node: fx.Node, module: nn.Module) -> Operator:
    """A module that is lowered with its whole call."""
    call, nodes, inputs, outputs = called(node, module)
    found = lower_call(module, call)
    return replace(
        _with(operator, found),
        nodes=nodes,
        inputs=tuple(inputs[value.name] for value in found.template.maps),
        outputs=outputs,
    )


def _emitted(
    operator: Operator, node: fx.Node, module: nn.Module, source: Source
) -> Operator:
    """An operator that was emitted before: its graph is the one it was made from."""
    bindings = dict(source.bindings)
    for value, given in zip(source.template.maps, node.args, strict=True):
        for axis, size in zip(value.type.shape, shape_of(given), strict=True):
            if isinstance(axis, Expr) and axis.op == "symbol":
                bindings[str(axis)] = size
    weights = {v.name: getattr(module, v.name) for v in source.template.weights}
    found = replace(
        _with(operator, Lowered(source.template, bindings, weights)),
        inputs=tuple(given.name for given in node.all_input_nodes),
    )
    return _taken_apart(found, node) if source.template.result.is_bundle else found


def _taken_apart(operator: Operator, node: fx.Node) -> Operator:
    length = len(operator.concrete.result.parts)
    parts = tuple(part.name for part in taken_out(node, length).values())
    if len(parts) < length:
        raise Unsupported("it gives a result that nothing reads")
    return replace(operator, nodes=(node.name, *parts), outputs=parts)


def _shapes(chain: list[fx.Node]) -> list[tuple[int, ...]]:
    """Shapes of the operator's input and of the result of each of its nodes."""
    source = chain[0].args[0] if chain[0].args else None
    if not isinstance(source, fx.Node) or len(chain[0].all_input_nodes) != 1:
        raise Unsupported("it does not take exactly one feature map")
    return [shape_of(node) for node in (source, *chain)]


def _dtype(node: fx.Node) -> str:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return dtype_of(source)
