"""What runs between operators: functions that TVM makes, and its virtual machine."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from torch import fx, nn

from gos_fx.ir.fusion import partition
from gos_fx.ir.graph import Graph
from gos_fx.latency.constants import Constants, constants_of
from gos_fx.latency.lines import Stage, Sweep, lines_of
from gos_fx.latency.nest import FLOAT_BYTES
from gos_fx.latency.roofline import Cost, cost_of_loops
from gos_fx.latency.stream import plain_loop, reduced_loop
from gos_fx.passes.memory_plan import VIEWS
from gos_fx.targets.target import Machine, Target

# Vector instructions of element-wise functions beside loads and stores; div and exp
# count as the instructions of these names.
_SIMPLE: dict[str, Callable[[Constants], float]] = {
    "add": lambda c: c.simple,
    "iadd": lambda c: c.simple,
    "sub": lambda c: c.simple,
    "mul": lambda c: c.simple,
    "imul": lambda c: c.simple,
    "relu": lambda c: c.simple,
    "relu_": lambda c: c.simple,
    "relu6": lambda c: 2 * c.simple,
    "hardtanh": lambda c: 2 * c.simple,
    "hardtanh_": lambda c: 2 * c.simple,
    "clamp": lambda c: 2 * c.simple,
    "hardsigmoid": lambda c: 4 * c.simple,
    "hardswish": lambda c: 5 * c.simple,
    "leaky_relu": lambda c: 2 * c.simple,
    "truediv": lambda c: c.div,
    "div": lambda c: c.div,
    "sqrt": lambda c: c.sqrt,
    "exp": lambda c: c.exp,
    "sigmoid": lambda c: c.exp + c.div,
    "silu": lambda c: c.exp + c.div + c.simple,
    "tanh": lambda c: c.tanh + c.div,
}
_NOTHING = frozenset(("flatten", "identity", "dropout", "contiguous", "eval", *VIEWS))


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape that the trace recorded; empty where there is none."""
    meta = node.meta.get("tensor_meta")
    return tuple(int(x) for x in getattr(meta, "shape", ()))


def calls(graph: Graph) -> int:
    """Functions that an inference calls for a concrete graph."""
    return sum(
        kernel.nodes[-1].type.role == "map" and kernel.anchor.opcode != "reshape"
        for kernel in partition(graph)
    )


def runtime(calls: int, target: Target) -> Cost:
    """What the virtual machine does around so many functions."""
    c = constants_of(target)
    return Cost(c.scale * c.runtime_cycles * calls, (), c.runtime_lines * calls)


def kind_of(node: fx.Node) -> str:
    """Name of a node's function, or of its module's type, in lower case."""
    if node.op == "call_module":
        owner = node.graph.owning_module
        assert owner is not None
        module = owner.get_submodule(str(node.target))
        return _MODULES.get(type(module), type(module).__name__.lower())
    if isinstance(node.target, str):
        return node.target
    return str(node.target.__name__)


_MODULES: dict[type[nn.Module], str] = {nn.Hardtanh: "hardtanh", nn.ReLU6: "relu6"}


def cost_of_node(node: fx.Node, target: Target) -> Cost | None:
    """Cost of a torch operator that is no operator of ours; None if it is not known."""
    machine, c = target.machine, constants_of(target)
    kind = kind_of(node)
    if kind in _NOTHING:
        return Cost(0.0)
    shape = shape_of(node)
    sources = [s for s in node.all_input_nodes if shape_of(s)]
    if not shape or not sources:
        return None
    if kind in _SIMPLE:
        each = _SIMPLE[kind](c)
        loop = plain_loop(shape, len(sources), each, machine, c)
        return cost_of_loops([loop], _lines(node, sources, machine, c), c)
    if kind.startswith("adaptive") and "avg" in kind and shape[-2:] == (1, 1):
        loop = reduced_loop(shape_of(sources[0]), machine, c)
        return cost_of_loops([loop], _lines(node, sources, machine, c), c)
    return None


def _lines(
    node: fx.Node, sources: list[fx.Node], machine: Machine, c: Constants
) -> float:
    """As of a kernel; in a network the result lies where another map was before, so
    that what the cache still holds of that is written back."""
    per = machine.line_bytes / FLOAT_BYTES
    sizes = {source.name: prod(shape_of(source)) / per for source in sources}
    out = prod(shape_of(node)) / per
    stages: list[Stage] = [[Sweep(x, size, True) for x, size in sizes.items()]]
    stages.append([*(Sweep(x, s) for x, s in sizes.items()), Sweep("out", out, True)])
    return lines_of(stages, machine, c)
