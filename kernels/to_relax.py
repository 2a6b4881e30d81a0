"""Exported network -> module of TVM, with our kernels in it, and its compilation.

Each ``gos_fx::operator`` call is cut into kernels, and each kernel becomes a call of
its scheduled function. What depends on weights alone is a call on constants, which
``FoldConstant`` evaluates, also when the target is another machine. The torch operators
in between go through TVM's own legalisation and fusion and get the plain schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tvm
from tvm import relax, s_tir, tirx
from tvm.relax.backend.cpu_generic import pipeline as cpu
from tvm.relax.frontend.torch import from_exported_program

from gos_fx.ir.fusion import Kernel, partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.opaque import parsed
from gos_fx.ir.types import Type
from gos_fx.kernels.prim_func import build_kernel
from gos_fx.kernels.schedule_rule import Packing
from gos_fx.kernels.schedules.stage import schedule_stages
from gos_fx.kernels.tiles import concrete, lanes
from gos_fx.targets.target import Machine, Target

# The key of torch.ops.gos_fx.operator in the importer's table.
OPERATOR = "operator.default"
OPAQUE = 8  # relax.OpPatternKind: FuseOps leaves the function alone


@dataclass(frozen=True)
class KernelCall:
    """A function that each inference calls, and the operator that it belongs to."""

    function: str
    operator: str


def import_program(
    program: torch.export.ExportedProgram, machine: Machine, calls: list[KernelCall]
) -> Any:
    """The module with ``main``; weights are constants, kernels are scheduled.

    The calls of our kernels are appended to ``calls`` in order of execution, with the
    path of the module that the operator was as its name.
    """

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        text, inputs = node.args
        graph = parsed(str(text))
        values = [importer.env[value] for value in inputs]  # type: ignore[union-attr]
        stack = node.meta.get("nn_module_stack", {})
        path = list(stack.values())[-1][0] if stack else node.name
        made: list[str] = []
        result = emit_graph(importer.block_builder, graph, values, machine, made)
        calls.extend(KernelCall(name, path) for name in made)
        return result

    return from_exported_program(
        program,
        unwrap_unit_return_tuple=True,
        custom_convert_map={OPERATOR: convert},
    )


def import_graph(graph: Graph, machine: Machine, calls: list[KernelCall]) -> Any:
    """The module of a concrete graph alone, its maps as inputs of ``main``.

    The weights are normal numbers: code and latency do not depend on them.
    """
    rng = np.random.default_rng(0)
    builder = relax.BlockBuilder()
    values: list[Any] = []
    for value in graph.inputs:
        shape = concrete(value.type)
        if value.type.role == "map":
            values.append(
                relax.Var(value.name, relax.TensorType(shape, value.type.dtype))
            )
        else:
            weight = rng.standard_normal(shape).astype(value.type.dtype)
            values.append(relax.const(weight))
    made: list[str] = []
    parameters = [value for value in values if isinstance(value, relax.Var)]
    with builder.function("main", parameters):
        with builder.dataflow():
            result = emit_graph(builder, graph, values, machine, made)
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    calls.extend(KernelCall(name, graph.name) for name in made)
    return builder.get()


def emit_graph(
    builder: relax.BlockBuilder,
    graph: Graph,
    inputs: list[Any],
    machine: Machine,
    made: list[str],
) -> relax.Var:
    """Calls of the graph's kernels on ``inputs``, in the order of ``graph.inputs``.

    Names of the functions that each inference calls are appended to ``made``; what
    depends on weights alone is called at compile time.
    """
    sources = _schedule_sources(graph)
    values = {v.name: value for v, value in zip(graph.inputs, inputs, strict=True)}
    for kernel in partition(graph):
        values[sources.get(kernel.output, kernel.output)] = _emit_kernel(
            builder,
            kernel,
            _Resolved(values, sources),
            graph.types,
            machine,
            made,
        )
    return values[sources.get(graph.output, graph.output)]


class _Resolved:
    """Values by name, tile and unroll nodes standing for what they are applied to."""

    def __init__(self, values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        self.values, self.sources = values, sources

    def __getitem__(self, name: str) -> Any:
        return self.values[self.sources.get(name, name)]


def _schedule_sources(graph: Graph) -> dict[str, str]:
    sources: dict[str, str] = {}
    for node in graph.nodes:
        if node.declaration.schedule:
            operand = node.operands[0]
            sources[node.name] = sources.get(operand, operand)
    return sources


def _emit_kernel(
    builder: relax.BlockBuilder,
    kernel: Kernel,
    values: _Resolved,
    types: Mapping[str, Type],
    machine: Machine,
    made: list[str],
) -> relax.Var:
    result = kernel.nodes[-1].type
    if kernel.anchor.opcode == "reshape" and result.role == "map":
        source = values[kernel.anchor.operands[0]]  # the same memory: nothing to run
        return builder.emit(relax.op.reshape(source, concrete(result)))
    scheduled = build_kernel(kernel, types, machine)
    arguments = [
        _emit_packing(builder, argument, values, types, made)
        if isinstance(argument, Packing)
        else values[argument]
        for argument in scheduled.arguments
    ]
    function = scheduled.function.without_attr("global_symbol").with_attrs(
        {"op_pattern": OPAQUE, "tirx.is_scheduled": True}
    )
    name = "_".join(["gos", *(node.opcode for node in kernel.nodes)])[:60]
    variable = builder.add_func(function, name)
    if result.role == "map":
        made.append(variable.name_hint)
    return _emit_call(builder, variable, arguments, concrete(result), result.dtype)


def _emit_packing(
    builder: relax.BlockBuilder,
    packing: Packing,
    values: _Resolved,
    types: Mapping[str, Type],
    made: list[str],
) -> relax.Var:
    arguments = [values[name] for name in packing.inputs]
    function = packing.function.without_attr("global_symbol")
    variable = builder.add_func(function, "gos_pack")
    if any(types[name].role == "map" for name in packing.inputs):
        made.append(variable.name_hint)
    return _emit_call(builder, variable, arguments, packing.shape, packing.dtype)


def _emit_call(
    builder: relax.BlockBuilder,
    variable: Any,
    arguments: list[Any],
    shape: tuple[int, ...],
    dtype: str,
) -> relax.Var:
    out_type = relax.TensorType(shape, dtype)
    return builder.emit(relax.call_tir(variable, arguments, out_type))


def compile_module(
    module: Any, target: Target, unscheduled: list[str], planned: list[Any]
) -> Any:
    """The executable; names of functions left without a schedule are appended.

    Those are functions that TVM made of torch operators and the plain schedule does not
    fit; they are correct and slow. ``planned`` gets the module behind the last pass,
    with the memory that it allocates.
    """
    machine = tvm.target.Target(dict(target.tvm))
    width = lanes(target.machine)

    @tvm.transform.module_pass(opt_level=0)
    def schedule_rest(mod: Any, _: Any) -> Any:
        for variable, function in mod.functions_items():
            if _wants_schedule(function):
                sch = _plainly_scheduled(function, width)
                if sch is None:
                    unscheduled.append(variable.name_hint)
                else:
                    mod[variable] = sch
        return mod

    @tvm.transform.module_pass(opt_level=0)
    def pipeline(mod: Any, _: Any) -> Any:
        passes = [
            *cpu.library_dispatch_passes(machine),
            relax.transform.FoldConstant(),
            relax.transform.LegalizeOps(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FoldConstant(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
            schedule_rest,
            *cpu.dataflow_lower_passes(machine),
            *cpu.finalize_passes(machine),
        ]
        with machine:
            planned.append(tvm.transform.Sequential(passes)(mod))
        return planned[-1]

    return tvm.compile(module, machine, relax_pipeline=pipeline)


def _wants_schedule(function: Any) -> bool:
    return isinstance(function, tirx.PrimFunc) and not (
        function.attrs and "tirx.is_scheduled" in function.attrs
    )


def _plainly_scheduled(function: tirx.PrimFunc, width: int) -> tirx.PrimFunc | None:
    sch = s_tir.Schedule(function)
    try:
        schedule_stages(sch, width)
    except (s_tir.ScheduleError, TypeError, ValueError):
        return None  # symbolic extents, or blocks that are not plain loop nests
    attributes = {"tirx.is_scheduled": True}
    return sch.mod["main"].with_attrs(attributes)
