"""An operator alone -> module of TVM, and the compilation of that and of networks.

What depends on weights alone is a call on constants, which is evaluated here, also when
the target is another machine. Torch operators that no rule of the importer
knows go through TVM's own legalisation and fusion and get the plain schedule.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax, s_tir, tirx
from tvm.relax.backend.cpu_generic import pipeline as cpu

from gos_fx.ir.graph import Graph
from gos_fx.ir.network import Network
from gos_fx.kernels.emit import KernelCall, emit_network, together
from gos_fx.kernels.fold import fold_calls
from gos_fx.kernels.layout import stored_shape
from gos_fx.kernels.schedules.stage import schedule_stages
from gos_fx.kernels.tiles import lanes
from gos_fx.targets.target import Machine, Target


def import_graph(graph: Graph, machine: Machine, calls: list[KernelCall]) -> Any:
    """The module of a concrete graph alone, its maps as inputs of ``main``.

    Maps lie as between two kernels of a network. The weights are normal numbers: code
    and latency do not depend on them.
    """
    rng = np.random.default_rng(0)
    builder = relax.BlockBuilder()
    values: list[Any] = []
    for value in graph.inputs:
        shape = stored_shape(value.type)
        if value.type.role == "map":
            values.append(
                relax.Var(value.name, relax.TensorType(shape, value.type.dtype))
            )
        else:
            weight = rng.standard_normal(shape).astype(value.type.dtype)
            values.append(relax.const(weight))
    parameters = [value for value in values if isinstance(value, relax.Var)]
    with builder.function("main", parameters):
        with builder.dataflow():
            (result,) = emit_network(
                builder, Network.of(graph), values, machine, calls, border=False
            )
            output = builder.emit_output(together(result))
        builder.emit_func_output(output)
    return builder.get()


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
    def evaluate(mod: Any, _: Any) -> Any:
        return fold_calls(mod)

    @tvm.transform.module_pass(opt_level=0)
    def pipeline(mod: Any, _: Any) -> Any:
        passes = [
            *cpu.library_dispatch_passes(machine),
            evaluate,
            relax.transform.FoldConstant(),
            relax.transform.LegalizeOps(_VIEWS, skip_ops=["relax.reshape"]),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FoldConstant(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
            schedule_rest,
            # Not RewriteDataflowReshape, which fails at functions without blocks.
            *cpu.dataflow_lower_passes(machine)[1:],
            *cpu.finalize_passes(machine),
        ]
        with machine:
            planned.append(tvm.transform.Sequential(passes)(mod))
        return planned[-1]

    # LLVM finds common expressions too; TVM takes half a minute in an unrolled tile.
    with tvm.transform.PassContext(config={"tirx.disable_cse_tir": True}):
        return tvm.compile(module, machine, relax_pipeline=pipeline)


def executed(module: Any, calls: list[KernelCall]) -> list[KernelCall]:
    """Those calls of kernels that were not evaluated at compile time.

    Args:
        module: behind the last pass.
        calls: in order of execution.
    """
    left: dict[str, list[KernelCall]] = {}
    for call in calls:
        left.setdefault(call.function, []).append(call)
    names = called_functions(module)
    found = []
    for i, name in enumerate(names):
        if name in left:  # of several calls those are left that come last
            found.append(left[name][-names[i:].count(name)])
    return found


def called_functions(module: Any) -> list[str]:
    """Names of the kernels that ``main`` calls, in order, with those of its branches.

    Args:
        module: behind the last pass.
    """
    return _called(module["main"].body)


def _called(body: Any) -> list[str]:
    names = []
    for value in (binding.value for block in body.blocks for binding in block.bindings):
        if isinstance(value, relax.If):
            names += [*_called(value.true_branch), *_called(value.false_branch)]
        elif isinstance(getattr(value, "op", None), tvm.ir.GlobalVar):
            names.append(value.op.name_hint)
    return names


def _reshape(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return relax.op.reshape(call.args[0], call.ty.shape)


# What is a reshape under another name; a reshape is the same memory again.
_VIEWS = dict.fromkeys(
    ("relax.expand_dims", "relax.flatten", "relax.squeeze"), _reshape
)


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
