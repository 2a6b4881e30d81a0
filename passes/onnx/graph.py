"""One instruction graph as ONNX, through the forms in its declarations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, ValueInfoProto, helper
from torch import Tensor

from gos_fx import instructions  # noqa: F401  (fills the instruction table)
from gos_fx.errors import Unsupported
from gos_fx.instructions.convolution_onnx import channel_sum
from gos_fx.ir.dim import Dim, symbol, symbols
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.interpreter import is_biased, is_summed
from gos_fx.ir.opcode import broadcast
from gos_fx.ir.types import Type
from gos_fx.passes.onnx.builder import OPSET, OnnxBuilder

BATCH = "N"  # what the first size of inputs and outputs is called where any will do
LARGEST = 2_000_000_000  # bytes of weights; protobuf's bound is 2^31 with all else


class GraphBuilder(OnnxBuilder):
    """A builder that takes instruction graphs too: the bodies of scans."""

    def body(
        self, graph: Graph, values: Mapping[str, str], first: Sequence[str], times: int
    ) -> GraphProto:
        """A graph that a node runs; it gives each of its results ``times`` times.

        Its inputs are those of ``graph`` that ``first`` names, in this order; all
        others are ``values`` of the graph around it.
        """
        inner = GraphBuilder(self)
        own = {name: inner.fresh(inner.scope + name) for name in first}
        found = append(inner, graph, {**values, **own}, inner.scope)
        results = found if graph.result.is_bundle else (found,)
        pairs = list(zip(results, graph.result.values, strict=True)) * times
        inputs = [_open(inner, own[name], graph.types[name]) for name in first]
        outputs = [_open(inner, inner.op("Identity", name), t) for name, t in pairs]
        return helper.make_graph(inner.nodes, graph.name, inputs, outputs)


def graph_to_onnx(
    graph: Graph,
    weights: Mapping[str, Tensor],
    bindings: Mapping[str, int] | None = None,
) -> ModelProto:
    """A model with the graph's feature maps as inputs and its weights inside.

    A template needs the sizes of a site; its model takes any batch size where that
    leads to the same nodes. Results are called ``output``, those of a bundle
    ``output_0`` and so on.

    Raises:
        Unsupported: ONNX has no operator for an instruction.
    """
    concrete = graph if bindings is None else at_site(graph, bindings)
    free = bindings is not None and takes_any_batch(graph, bindings)
    dims = open_dims if free else lambda found, symbolic: None
    b = GraphBuilder()
    values: dict[str, Any] = {v.name: b.fresh(v.name) for v in concrete.maps}
    inputs = [
        b.declared(values[v.name], v.type, dims(v.type, symbolic.type))
        for v, symbolic in zip(concrete.maps, graph.maps, strict=True)
    ]
    values |= {v.name: b.weight(v.name, weights[v.name]) for v in concrete.weights}
    result = append(b, concrete, values)
    parts = concrete.result.values, graph.result.values
    if concrete.result.is_bundle:
        outputs = [
            output(b, name, found, dims(found, symbolic), i)
            for i, (name, found, symbolic) in enumerate(
                zip(result, *parts, strict=True)
            )
        ]
    else:
        found = concrete.result
        outputs = [output(b, result, found, dims(found, graph.result))]
    return to_model(b, graph.name, inputs, outputs)


def append(
    b: GraphBuilder, graph: Graph, values: Mapping[str, Any], scope: str = ""
) -> Any:
    """Append the instructions of a concrete graph; gives the name of its output, or
    those of a bundle.

    A cross-correlation whose maps are only aggregated over the input channels becomes
    one ``Conv``, with the bias that is added, as the interpreter computes it.

    Args:
        values: ONNX names of the graph's inputs.
        scope: in front of the names of the nodes.

    Raises:
        Unsupported: ONNX has no operator for an instruction.
    """
    _refuse_without_form(graph)
    found = dict(values)
    b.like = found[graph.inputs[0].name] if graph.inputs else ""
    for node in graph.nodes:
        if not (is_summed(graph, node) or is_biased(graph, node)):
            b.at(scope + node.name, node.type)
            found[node.name] = _append(b, graph, node, found)
    return found[graph.output]


def output(
    b: GraphBuilder,
    name: str,
    found: Type,
    dims: Sequence[int | str | None] | None = None,
    index: int | None = None,
) -> ValueInfoProto:
    """Make a value an output of the model; its name is the output's own."""
    made = b.fresh("output" if index is None else f"output_{index}")
    b.nodes.append(
        helper.make_node("Identity", [name], [made], name=f"{made}/Identity")
    )
    return b.declared(made, found, dims)


def to_model(
    b: GraphBuilder,
    name: str,
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
) -> ModelProto:
    """What was built as a model that ONNX's own checker passes.

    Raises:
        Unsupported: its weights are larger than a message of protobuf can be.
    """
    size = sum(len(tensor.raw_data) for tensor in b.initializers.values())
    if size > LARGEST:
        raise Unsupported(
            f"weights of {size / 1e9:.1f} GB, and ONNX takes {LARGEST / 1e9:.1f}", name
        )
    graph = helper.make_graph(
        b.nodes, name, inputs, outputs, list(b.initializers.values())
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(
        graph,
        opset_imports=[opset],
        ir_version=helper.find_min_ir_version_for([opset]),
        producer_name="gos_fx",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def at_site(template: Graph, bindings: Mapping[str, int]) -> Graph:
    """The concrete graph, with the batch of its shapes left to the runtime."""
    return _with_open_batch(template.instantiate(bindings), template)


def takes_any_batch(template: Graph, bindings: Mapping[str, int]) -> bool:
    """Whether twice the batch leads to the same nodes and constants."""
    if BATCH not in bindings:
        return False
    forms = []
    for factor in (1, 2):
        b = GraphBuilder()
        sizes = {**bindings, BATCH: factor * bindings[BATCH]}
        concrete = at_site(template, sizes)
        append(b, concrete, {v.name: b.fresh(v.name) for v in concrete.inputs})
        forms.append((b.nodes, b.initializers))
    return forms[0] == forms[1]


def _append(
    b: GraphBuilder, graph: Graph, node: Node, values: Mapping[str, Any]
) -> Any:
    def named(reader: Node) -> tuple[list[Any], list[Type]]:
        types = [graph.types[name] for name in reader.operands]
        return [values[name] for name in reader.operands], types

    first = graph.by_name.get(node.operands[0]) if node.operands else None
    if first is not None and is_biased(graph, first):
        maps = graph.by_name[first.operands[0]]
        bias = values[node.operands[1]]
        return channel_sum(b, first.opcode, *named(maps), maps.attrs, bias)
    if first is not None and is_summed(graph, first):
        operands, types = named(first)
        operands += [values[name] for name in node.operands[1:]]
        return channel_sum(b, node.opcode, operands, types, first.attrs)
    operands, types = named(node)
    form = node.declaration.onnx
    if not isinstance(form, str):
        assert form is not None  # _refuse_without_form has looked
        return form(b, operands, types, node.type, node.attrs)
    if node.declaration.shape is broadcast:
        operands = b.aligned(operands, types)
    return b.op(form, *operands)


def _refuse_without_form(graph: Graph) -> None:
    missing = sorted({n.opcode for n in graph.nodes if n.declaration.onnx is None})
    if missing:
        raise Unsupported(
            f"ONNX has no operator for {', '.join(missing)}",
            where=graph.name,
            do="keep this operator's original, or compile the network with "
            "gos_fx.compile, which has all instructions",
        )


def _open(b: GraphBuilder, name: str, found: Type) -> ValueInfoProto:
    """A value inside of a body, whose sizes are those of the graph around it."""
    return b.declared(name, found, [None] * found.rank)


def _with_open_batch(concrete: Graph, template: Graph) -> Graph:
    """-1 for the batch in the shapes of ``reshape``, as the runtime takes it, and in
    front of those of ``zeros``, where it is the first size of the first input."""
    leads = _leads(template.inputs[0].type.shape) if template.inputs else False
    nodes = []
    for node, symbolic in zip(concrete.nodes, template.nodes, strict=True):
        attributes = node.attrs
        for key, value in symbolic.attributes:
            if isinstance(value, Graph):
                attributes[key] = _with_open_batch(attributes[key], value)
        shape = symbolic.attrs.get("shape", ())
        opens = node.opcode == "reshape"
        opens |= node.opcode == "zeros" and leads and _leads(shape)
        if opens and sum(map(_has_batch, shape)) == 1:
            attributes["shape"] = tuple(
                -1 if _has_batch(dim) else size
                for dim, size in zip(shape, attributes["shape"], strict=True)
            )
        nodes.append(replace(node, attributes=tuple(attributes.items())))
    return replace(concrete, nodes=tuple(nodes))


def _leads(shape: Sequence[Dim]) -> bool:
    return bool(shape) and shape[0] == symbol(BATCH)


def _has_batch(dim: Dim) -> bool:
    return BATCH in symbols(dim)


def open_dims(found: Type, symbolic: Type) -> list[int | str | None]:
    """Sizes of a value of a template that takes any batch: ``N`` where that is one,
    None where one depends on it."""
    sizes: Any = found.shape
    return [
        (BATCH if dim == symbol(BATCH) else None) if _has_batch(dim) else size
        for dim, size in zip(symbolic.shape, sizes, strict=True)
    ]
