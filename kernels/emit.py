"""Network of instructions -> calls of scheduled kernels in a Relax function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm import relax

from gos_fx.ir.decompose import decompose
from gos_fx.ir.fusion import ALIAS, SCHEDULE, Kernel, partition
from gos_fx.ir.network import Network
from gos_fx.kernels.layout import Layout, inside, results
from gos_fx.kernels.movement import settle
from gos_fx.kernels.prim_func import build_kernel
from gos_fx.kernels.scan import hoist
from gos_fx.kernels.schedule_rule import Packing
from gos_fx.kernels.tiles import concrete
from gos_fx.targets.target import Machine

OPAQUE = 8  # relax.OpPatternKind: FuseOps leaves the function alone
_LONGEST_NAME = 60


@dataclass(frozen=True)
class KernelCall:
    """A function that each inference calls, and the operator that it belongs to."""

    function: str
    operator: str


@dataclass
class _Emission:
    builder: relax.BlockBuilder
    network: Network
    machine: Machine
    layouts: Mapping[str, Layout]
    calls: list[KernelCall]
    values: dict[str, Any]  # of a bundle a tuple
    sources: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[self.sources.get(name, name)]


def emit_network(
    builder: relax.BlockBuilder,
    network: Network,
    inputs: Sequence[Any],
    machine: Machine,
    calls: list[KernelCall],
    *,
    border: bool = True,
) -> list[Any]:
    """The outputs: calls of the network's kernels on ``inputs``, in the order of its
    inputs. An output that is a bundle is a tuple.

    What depends on weights alone is a call on constants, which ``FoldConstant``
    evaluates. The calls that each inference makes are appended to ``calls``.

    Args:
        border: feature maps that come in and go out have their axes in logical order;
            else as between two kernels.
    """
    network, layouts = settle(decompose(hoist(network)), border=border)
    values = {v.name: x for v, x in zip(network.inputs, inputs, strict=True)}
    emission = _Emission(builder, network, machine, layouts, calls, values)
    for node in network.nodes:
        if node.opcode in SCHEDULE:
            source = node.operands[0]
            emission.sources[node.name] = emission.sources.get(source, source)
    for kernel in partition(network):
        name = emission.sources.get(kernel.output, kernel.output)
        structure = _STRUCTURE.get(kernel.anchor.opcode, _emit_kernel)
        values[name] = structure(emission, kernel)
    return [emission[name] for name in network.outputs]


def together(output: Any) -> Any:
    """An output of a network as one expression."""
    return relax.Tuple(output) if isinstance(output, tuple) else output


def _alias(emission: _Emission, kernel: Kernel) -> relax.Var:
    """The same memory under another shape."""
    source = kernel.anchor.operands[0]
    layout = emission.layouts.get(kernel.output) or inside(kernel.anchor.type)
    shape = layout.stored(concrete(kernel.anchor.type))
    return emission.builder.emit(relax.op.reshape(emission[source], shape))


def _result(emission: _Emission, kernel: Kernel) -> relax.Var:
    """One part of a bundle, which lies with its axes in logical order."""
    part = emission[kernel.anchor.operands[0]][kernel.anchor.attr("index")]
    layout = emission.layouts.get(kernel.output) or inside(kernel.anchor.type)
    if layout.is_plain:
        return part
    return emission.builder.emit(relax.op.permute_dims(part, layout.order))


def _bundle(emission: _Emission, kernel: Kernel) -> tuple[relax.Var, ...]:
    return tuple(emission[name] for name in kernel.anchor.operands)


# Kernels without code.
_STRUCTURE = {ALIAS: _alias, "result": _result, "bundle": _bundle}


def _emit_kernel(emission: _Emission, kernel: Kernel) -> Any:
    """A call of the kernel's function; a tuple where it has several results."""
    network, builder = emission.network, emission.builder
    result = kernel.nodes[-1].type
    layout = emission.layouts.get(kernel.output)
    scheduled = build_kernel(kernel, network.types, emission.machine, emission.layouts)
    arguments = [
        _emit_packing(emission, argument, kernel)
        if isinstance(argument, Packing)
        else emission[argument]
        for argument in scheduled.arguments
    ]
    function = scheduled.function.without_attr("global_symbol").with_attrs(
        {"op_pattern": OPAQUE, "tirx.is_scheduled": True}
    )
    name = "_".join(["gos", *(n.opcode for n in kernel.nodes)])[:_LONGEST_NAME]
    variable = builder.add_func(function, name)
    if result.role == "map":
        _note(emission, variable, kernel)
    types = [
        relax.TensorType(lies.stored(concrete(of)), of.dtype)
        for of, lies in results(result, layout)
    ]
    found = builder.emit(relax.call_tir(variable, arguments, types))
    if not result.is_bundle:
        return found
    if len(types) == 1:  # Relax has it without a tuple
        return (found,)
    count = len(types)
    return tuple(builder.emit(relax.TupleGetItem(found, i)) for i in range(count))


def _note(emission: _Emission, variable: Any, kernel: Kernel) -> None:
    owners = emission.network.owners
    owner = owners.get(kernel.anchor.name, kernel.anchor.name)
    emission.calls.append(KernelCall(variable.name_hint, owner))


def _emit_packing(emission: _Emission, packing: Packing, kernel: Kernel) -> relax.Var:
    types = emission.network.types
    arguments = [emission[name] for name in packing.inputs]
    function = packing.function.without_attr("global_symbol")
    variable = emission.builder.add_func(function, "gos_pack")
    if any(types[name].role == "map" for name in packing.inputs):
        _note(emission, variable, kernel)
    packed = relax.TensorType(packing.shape, packing.dtype)
    return emission.builder.emit(relax.call_tir(variable, arguments, packed))
