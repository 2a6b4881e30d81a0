"""A whole network as ONNX: the instruction graphs of its operators in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import ModelProto
from torch import Tensor, fx

from gos_fx.errors import Unsupported
from gos_fx.ir.types import Type
from gos_fx.passes.onnx.graph import (
    BATCH,
    GraphBuilder,
    append,
    at_site,
    open_dims,
    output,
    takes_any_batch,
    to_model,
)
from gos_fx.passes.operators import Operator


def network_to_onnx(
    graph_module: fx.GraphModule, operators: Sequence[Operator]
) -> ModelProto:
    """The network between its inputs and outputs, all of its weights inside.

    Inputs have the names of the parameters of ``forward``, outputs are ``output``, or
    ``output_0`` and so on where there are several. The batch size is open where every
    operator takes any. Sizes that are computed between operators are known in these,
    and are left out.

    Args:
        graph_module: traced, with shapes on its nodes.
        operators: those of the traced network, with their instruction graphs.

    Raises:
        Unsupported: the outputs depend on what has no instruction graph, or on an
            instruction that ONNX has no operator for.
    """
    return _Network(graph_module, operators).to_model()


class _Network:
    def __init__(
        self, graph_module: fx.GraphModule, operators: Sequence[Operator]
    ) -> None:
        self.graph_module = graph_module
        self.nodes = list(graph_module.graph.nodes)
        self.by_name = {node.name: node for node in self.nodes}
        self.made_by = {
            name: op
            for op in operators
            if op.template is not None
            for name in op.outputs
        }
        self.reasons = {name: op.reason for op in operators for name in op.nodes}
        self.results: list[fx.Node] = []
        for node in self.nodes:
            if node.op == "output":
                fx.map_arg(node.args, self.results.append)
        self.needed = self._needed()
        self.dims = self._dims()
        self.b = GraphBuilder()
        self.values: dict[str, str] = {}

    def to_model(self) -> ModelProto:
        self._refuse_others()
        placeholders = [n for n in self.nodes if n.op == "placeholder" and _type(n)]
        inputs = []
        for node in placeholders:
            name = self.values[node.name] = self.b.fresh(str(node.target))
            inputs.append(self.b.declared(name, _type(node), self.dims.get(node.name)))
        for node in self.nodes:
            if node.name not in self.needed or node.name in self.values:
                continue
            if node.name in self.made_by:
                self._append(self.made_by[node.name])
            elif node.op == "get_attr":
                value = _attribute(self.graph_module, str(node.target))
                self.values[node.name] = self.b.weight(str(node.target), value)
        several = len(self.results) > 1
        outputs = [
            output(
                self.b,
                self.values[node.name],
                _type(node),
                self.dims.get(node.name),
                i if several else None,
            )
            for i, node in enumerate(self.results)
        ]
        return to_model(self.b, type(self.graph_module).__name__, inputs, outputs)

    def _append(self, operator: Operator) -> None:
        assert operator.template is not None
        concrete = at_site(operator.template, operator.bindings)
        sources = zip(concrete.maps, operator.inputs, strict=True)
        values = {v.name: self.values[name] for v, name in sources}
        for declared in concrete.weights:
            name = f"{operator.name}.{declared.name}"
            weight = operator.weights[declared.name]
            values[declared.name] = self.b.weight(name, weight)
        found = append(self.b, concrete, values, f"{operator.name}/")
        results = found if concrete.result.is_bundle else (found,)
        self.values.update(zip(operator.outputs, results, strict=True))

    def _needed(self) -> set[str]:
        """FX nodes that the outputs are computed from, through the operators."""
        found = {node.name for node in self.results}
        for node in reversed(self.nodes):
            if node.name in self.made_by:
                if node.name in found:
                    found.update(self.made_by[node.name].inputs)
            elif node.name in found:
                found.update(n.name for n in node.all_input_nodes)
        return found

    def _refuse_others(self) -> None:
        others = [
            node.name
            for node in self.nodes
            if node.name in self.needed
            and node.name not in self.made_by
            and not (node.op in ("placeholder", "get_attr") and self._is_tensor(node))
        ]
        if others:
            listed = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
            reason = next((r for n in others if (r := self.reasons.get(n))), "")
            raise Unsupported(
                f"{listed} {'has' if len(others) == 1 else 'have'} no instruction graph"
                + (f": {reason}" if reason else ""),
                where=type(self.graph_module).__name__,
                do="export the original with torch.onnx, or put what has a lowering "
                "in its place",
            )

    def _is_tensor(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            value = _attribute(self.graph_module, str(node.target))
            return isinstance(value, Tensor)
        return _type(node) is not None

    def _dims(self) -> dict[str, list[int | str | None]]:
        """Sizes of the inputs and outputs, if any batch will do; otherwise nothing."""
        used = {
            id(op): op for name, op in self.made_by.items() if name in self.needed
        }.values()
        found: dict[str, list[int | str | None]] = {}
        sizes = set()
        for op in used:
            assert op.template is not None
            if not takes_any_batch(op.template, op.bindings):
                return {}
            for value, name in zip(op.template.maps, op.inputs, strict=True):
                node = self.by_name[name]
                if node.op == "placeholder":
                    dims = open_dims(_type(node), value.type)
                    if found.setdefault(name, dims) != dims:
                        return {}
                    sizes |= {op.bindings[BATCH]} if BATCH in dims else set()
        if len(sizes) != 1:  # N would have two meanings
            return {}
        (batch,) = sizes
        for node in self.results:
            if (maker := self.made_by.get(node.name)) is not None:
                assert maker.template is not None
                part = maker.template.result.values[maker.outputs.index(node.name)]
                dims = open_dims(_type(node), part)
                same = maker.bindings[BATCH] == batch
                found[node.name] = dims if same else [None] * len(dims)
        return found


def _type(node: fx.Node) -> Any:
    """Type of an FX node's tensor; None where it has none."""
    meta: Any = node.meta.get("tensor_meta")
    if not hasattr(meta, "shape"):
        return None
    return Type("map", tuple(meta.shape), str(meta.dtype).removeprefix("torch."))


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module
