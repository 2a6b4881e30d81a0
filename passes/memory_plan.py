"""What compiled code will take beside its weights: TVM's static plan, foreseen.

An estimate for the search, which cannot compile every candidate. The package of a
compiled network states the exact number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

from torch import fx, nn

from gos_fx.ir.fusion import Kernel, partition
from gos_fx.ir.graph import Graph
from gos_fx.passes.memory import map_bytes
from gos_fx.passes.operators import Operator

# What only hands on what is there already, or gives a shape.
VIEWS = frozenset(("view", "reshape", "flatten", "size", "getattr", "getitem"))
_VIEW_MODULES = (nn.Flatten, nn.Identity, nn.Dropout)
# A storage serves a request of at least this part of its size (TVM's allocator).
_RANGE = 16


@dataclass(frozen=True)
class _Step:
    """One kernel: what it writes, reads, and uses inside. A view has no bytes."""

    name: str
    bytes: int
    reads: tuple[str, ...]
    scratch: int = 0


def planned_bytes(
    graph_module: fx.GraphModule, operators: Sequence[Operator]
) -> tuple[int, int]:
    """Bytes of feature maps that a network with shapes keeps, and at most of scratch.

    Counted are the inputs, which the caller holds, and the storages that serve one map
    after another. Inside of an operator only what its
    kernels leave behind counts, and as scratch memory the padded copies of inputs.
    """
    steps = list(_steps(graph_module, operators))
    base = {step.name: step.name for step in steps if step.bytes}
    for step in steps:
        if not step.bytes:  # a view lives on in what it shows
            base[step.name] = base.get(step.reads[0], "") if step.reads else ""
    last = {}
    for i, step in enumerate(steps):
        for name in (step.name, *step.reads):
            last[base.get(name, "")] = i
    (output,) = (n for n in graph_module.graph.nodes if n.op == "output")
    given = {base.get(node.name, "") for node in output.all_input_nodes}
    return _inputs(graph_module) + _storages(steps, base, last, given), max(
        (step.scratch for step in steps), default=0
    )


def _storages(
    steps: Sequence[_Step], base: dict[str, str], last: dict[str, int], given: set[str]
) -> int:
    """Largest sum of storages that live at one time, each from its first map to the
    end of its last; outputs have one of their own, to the end."""
    sizes: list[int] = []
    begins: list[int] = []
    ends: list[int] = []
    holder: dict[str, int] = {}
    free: list[int] = []
    for i, step in enumerate(steps):
        if step.bytes:
            kept = step.name in given
            chosen = _take(step.bytes, sizes, [] if kept else free)
            if chosen == len(begins):
                begins.append(i)
                ends.append(i)
            holder[step.name] = chosen
        for name in {base.get(n, "") for n in (step.name, *step.reads)}:
            if name in holder:
                ends[holder[name]] = len(steps) if name in given else i
                if last[name] == i and name not in given:
                    free.append(holder.pop(name))
    return max(
        (
            sum(
                size
                for size, begin, end in zip(sizes, begins, ends, strict=True)
                if begin <= i <= end
            )
            for i in range(len(steps))
        ),
        default=0,
    )


def _take(wanted: int, sizes: list[int], free: list[int]) -> int:
    """The smallest free storage that is large enough; else the largest, grown."""
    near = [i for i in free if wanted / _RANGE <= sizes[i] <= wanted * _RANGE]
    enough = [i for i in near if sizes[i] >= wanted]
    if not near:
        sizes.append(wanted)
        return len(sizes) - 1
    chosen = (
        min(enough, key=lambda i: sizes[i])
        if enough
        else max(near, key=lambda i: sizes[i])
    )
    free.remove(chosen)
    sizes[chosen] = max(sizes[chosen], wanted)
    return chosen


def _inputs(graph_module: fx.GraphModule) -> int:
    return sum(map_bytes(n) for n in graph_module.graph.nodes if n.op == "placeholder")


def _steps(
    graph_module: fx.GraphModule, operators: Sequence[Operator]
) -> Iterator[_Step]:
    first = {op.nodes[0]: op for op in operators}
    inner = {name for op in operators for name in op.nodes[1:]}
    modules = dict(graph_module.named_modules())
    for node in graph_module.graph.nodes:
        reads = tuple(source.name for source in node.all_input_nodes)
        operator = first.get(node.name)
        if operator is not None and operator.template is not None:
            yield from _kernels(operator, reads)
        elif node.op in ("call_function", "call_method", "call_module"):
            if node.name in inner:
                continue
            yield _Step(
                node.name, 0 if _is_view(node, modules) else map_bytes(node), reads
            )


def _is_view(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _VIEW_MODULES)
    kind = node.target if isinstance(node.target, str) else node.target.__name__
    return kind in VIEWS


def _kernels(operator: Operator, reads: tuple[str, ...]) -> Iterator[_Step]:
    graph = operator.concrete
    kernels = [k for k in partition(graph) if k.nodes[-1].type.role == "map"]
    names = {value.name: reads[0] for value in graph.maps}
    for node in graph.nodes:
        names[node.name] = f"{operator.nodes[0]}:{node.name}"
    for kernel in kernels:
        for node in kernel.nodes:  # schedule nodes stand for what they are applied to
            names[node.name] = names[kernel.output]
    for kernel in kernels:
        sources = tuple(names[n] for n in kernel.inputs if n in names)
        size = 0 if kernel.anchor.opcode == "reshape" else _bytes(kernel)
        yield _Step(names[kernel.output], size, sources, _scratch(kernel, graph))
    result = names[graph.output]
    if result != operator.nodes[-1]:
        yield _Step(operator.nodes[-1], 0, (result,))


def _bytes(kernel: Kernel) -> int:
    return 4 * prod(cast("tuple[int, ...]", kernel.nodes[-1].type.shape))


def _scratch(kernel: Kernel, graph: Graph) -> int:
    """The padded input of a dense convolution; others pad tile by tile."""
    anchor = kernel.anchor
    if anchor.opcode != "cross_correlation" or anchor.attr("groups") != 1:
        return 0
    top, bottom, left, right = anchor.attr("padding")
    if not (top or bottom or left or right):
        return 0
    shape = cast("tuple[int, ...]", graph.types[anchor.operands[0]].shape)
    batch, channels, height, width = (*shape[:2], *shape[2:])
    rows, columns = height + int(top + bottom), width + int(left + right)
    return 4 * batch * channels * rows * columns
