"""Exported program -> module of TVM whose ``main`` is as few networks as can be.

What a rule knows becomes instructions of one network, former operators and all, so that
kernels and layouts go across their borders. What no rule knows is left to TVM's own
converter: the network so far is emitted, its values cross in logical order of axes, and
a new one begins.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.export.graph_signature import OutputKind
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import (
    ExportedProgramImporter,
)

from gos_fx.errors import Unsupported
from gos_fx.ir.network import Network
from gos_fx.ir.opaque import parsed
from gos_fx.kernels.emit import KernelCall, emit_network
from gos_fx.kernels.importer import (  # noqa: F401  (fill the table of rules)
    elementwise,
    images,
    moving,
    products,
)
from gos_fx.kernels.importer.builder import Builder, Value
from gos_fx.kernels.importer.exported import (
    bound_tensors,
    constant,
    decompositions,
    has_sparse,
    owner,
    shapes,
)
from gos_fx.kernels.importer.rules import ATEN
from gos_fx.kernels.simplify import simplify
from gos_fx.targets.target import Machine

# The keys of our operators in TVM's table, and their names in programs.
OPERATORS = ("operator.default", "operator_bundle.default")
_OPERATORS = tuple(f"gos_fx.{name}" for name in OPERATORS)
# Constants that are computed here, not by the network, have at most so many elements.
_FOLDED_ELEMENTS = 1 << 22


def import_program(
    program: torch.export.ExportedProgram, machine: Machine, calls: list[KernelCall]
) -> Any:
    """The module with ``main``; weights are constants, kernels are scheduled.

    The calls of our kernels are appended to ``calls`` in order of execution, with the
    path of the module that they came from as its name.

    Raises:
        Unsupported: neither a rule nor TVM knows an operator.
    """
    if not has_sparse(program):
        program = program.run_decompositions(decompositions())
    return Importer(program, machine, calls).run()


class Importer(ExportedProgramImporter):
    """The walk over one program. ``env`` has what exists as an expression of Relax."""

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        machine: Machine,
        calls: list[KernelCall],
    ) -> None:
        super().__init__()
        self.machine, self.calls = machine, calls
        self._program = program
        self._builder = Builder()
        self._values: dict[fx.Node, Value] = {}
        self._constants: dict[fx.Node, Tensor] = {}
        self._parameters: dict[int, Any] = {}
        self._visited: set[fx.Node] = set()
        self._is_walking = False

    def run(self) -> Any:
        """The module of the program."""
        known = self.create_convert_map()
        ours = dict.fromkeys(OPERATORS, _one_operator)
        for node in self._program.graph.nodes:
            name = getattr(node.target, "__name__", "")
            if str(node.target) in ATEN and name not in known:
                ours[name] = _refuse
        return self.from_exported_program(
            self._program,
            keep_params_as_input=False,
            unwrap_unit_return_tuple=True,
            no_bind_return_tuple=False,
            custom_convert_map=ours,
        )

    def _translate_fx_graph(
        self,
        graph_module: Any,
        nodes: Any,
        inputs_vars: dict[str, Any],
        custom_ops: set[str] | None = None,
    ) -> tuple[Any, ...]:
        """In the place of TVM's walk; a branch of ``torch.cond`` is left to that."""
        if self._is_walking:
            found: tuple[Any, ...] = super()._translate_fx_graph(
                graph_module, nodes, inputs_vars, custom_ops
            )
            return found
        self._is_walking = True
        tensors = bound_tensors(self._program)
        for node in nodes:
            if node.op == "placeholder":
                if node.name in inputs_vars:
                    self.env[node] = inputs_vars[node.name]
                if node.name in tensors:
                    tensor = self._constants[node] = tensors[node.name]
                    self._parameters[id(tensor)] = self.env[node]
            elif node.op == "get_attr":
                self.env[node] = getattr(graph_module, node.target)
            elif node.op == "output":
                return self._outputs(node)
            elif node not in self._visited:
                self._call(node, custom_ops or set())
            self._visited.add(node)
        raise AssertionError("a program without outputs")

    def _call(self, node: fx.Node, custom_ops: set[str]) -> None:
        if self._fold(node):
            return
        results = self._results(node, self._apply(node))
        if results is None:
            self._leave(node, custom_ops)
            return
        for user, one in results.items():
            self._visited.add(user)
            if isinstance(one, Tensor):
                self._constants[user] = one
            else:
                self._values[user] = one

    def _fold(self, node: fx.Node) -> bool:
        """Whether it depends on constants alone, and is one from now on."""
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
            return False
        if torch.Tag.nondeterministic_seeded in target.tags or "empty" in str(target):
            return False
        if not all(source in self._constants for source in node.all_input_nodes):
            return False
        value = node.meta.get("val")
        if not isinstance(value, Tensor) or value.numel() > _FOLDED_ELEMENTS:
            return False
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._constants.get)
        with torch.no_grad():
            self._constants[node] = target(*args, **kwargs)
        return True

    def _apply(self, node: fx.Node) -> Any:
        """What the rule for a call gives; None without a rule."""
        out = shapes(node.meta.get("val"))
        if out is None:
            return None
        rule = ATEN.find(str(node.target))
        is_ours = str(node.target) in _OPERATORS
        if rule is None and not is_ours:
            return None
        self._builder.owner = owner(node)
        operands = {source: self._operand(source) for source in node.all_input_nodes}
        if any(operand is None for operand in operands.values()):
            return None
        args: Any
        kwargs: Any
        args, kwargs = fx.map_arg((node.args, node.kwargs), operands.__getitem__)  # type: ignore[arg-type]
        if rule is None:
            return self._builder.inline(parsed(str(args[0])), args[1])
        try:
            bound = inspect.signature(rule).bind(self._builder, out, *args, **kwargs)
        except TypeError:  # a form of the call that the rule does not speak of
            return None
        return rule(*bound.args, **bound.kwargs)

    def _operand(self, node: fx.Node) -> Value | Tensor | None:
        """A value as rules take it; None where they cannot."""
        if node in self._constants:
            return self._constants[node]
        if node not in self._values:
            shape = shapes(node.meta.get("val"))
            if node not in self.env or shape is None or isinstance(shape, list):
                return None
            self._values[node] = self._builder.map(self.env[node], shape)
        return self._values[node]

    def _results(self, node: fx.Node, result: Any) -> dict[fx.Node, Any] | None:
        """What a rule gave, by the nodes that stand for it; None where one lacks."""
        if result is None:
            return None
        results = {node: result}
        if isinstance(result, tuple):
            if any(user.target is not operator.getitem for user in node.users):
                return None
            results = {user: result[user.args[1]] for user in node.users}  # type: ignore[index]
        for user, one in results.items():
            if one is None:
                return None
            wanted = shapes(user.meta.get("val"))
            if wanted is not None and tuple(one.shape) != wanted:
                raise AssertionError(f"{node.target} gives {one.shape}, not {wanted}")
        return results

    def _leave(self, node: fx.Node, custom_ops: set[str]) -> None:
        """Let TVM convert a call, with expressions for all that it reads."""
        inputs = node.all_input_nodes
        if any(x in self._values and x not in self.env for x in inputs):
            self._flush()
        for source in inputs:
            self._need(source, custom_ops)
        name = node.target.__name__  # type: ignore[union-attr]
        convert = self.convert_map[name]
        self.env[node] = convert(node, self) if name in custom_ops else convert(node)

    def _need(self, node: fx.Node, custom_ops: set[str]) -> None:
        """Make a folded constant an expression, as TVM would have made it."""
        if node in self.env or node not in self._constants:
            return
        if node.target.__name__ in self.convert_map:  # type: ignore[union-attr]
            self._leave(node, custom_ops)
        else:
            self.env[node] = constant(self._constants[node])

    def _flush(self) -> None:
        """Emit the network so far, with what later calls read as its outputs."""
        needed = {
            node: value
            for node, value in self._values.items()
            if node not in self.env
            and any(user not in self._visited for user in node.users)
        }
        outputs = list({value.name: value for value in needed.values()}.values())
        builder, self._builder = self._builder, Builder()
        self._values = {}
        if not outputs:
            return
        network = simplify(builder.network(outputs))
        inputs = [self._expression(builder.bound[v.name]) for v in network.inputs]
        results = emit_network(
            self.block_builder, network, inputs, self.machine, self.calls
        )
        found = dict(zip(network.outputs, results, strict=True))
        for node, value in needed.items():
            self.env[node] = found[value.name]

    def _expression(self, bound: Any) -> Any:
        if not isinstance(bound, Tensor):
            return bound
        found = self._parameters.get(id(bound))
        return constant(bound) if found is None else found

    def _outputs(self, node: fx.Node) -> tuple[Any, ...]:
        """Expressions of the results; of those that torch writes back, any will do."""
        specs = self._program.graph_signature.output_specs
        wanted = (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT)
        results: Sequence[Any] = node.args[0]  # type: ignore[assignment]
        ours = [
            result if spec.kind in wanted else None
            for result, spec in zip(results, specs, strict=True)
        ]
        needed = {result for result in ours if isinstance(result, fx.Node)}
        for value in [*self._values]:
            if value not in needed and set(value.users) <= self._visited | {node}:
                self._values.pop(value)
        self._flush()
        for result in needed:
            self._need(result, set())
        found = [
            self.env[result] if isinstance(result, fx.Node) else relax.const(0.0)
            for result in ours
        ]
        flat: tuple[Any, ...] = self._flatten_output_args(found)
        return flat


def _one_operator(node: fx.Node, importer: Any) -> Any:
    """An operator inside a branch of ``torch.cond``: a network of its own."""
    text, inputs = node.args
    graph = parsed(str(text))
    values = [importer.env[value] for value in inputs]  # type: ignore[union-attr]
    network = replace(
        Network.of(graph), owners={n.name: owner(node) for n in graph.nodes}
    )
    (result,) = emit_network(
        importer.block_builder, network, values, importer.machine, importer.calls
    )
    return result


def _refuse(node: fx.Node, importer: Any) -> Any:
    raise Unsupported(f"neither we nor TVM have this form of {node.target}")
