"""What a valid graph is: names, types, reachability, schedules, bounds.

What a graph must keep of the one that it replaces is in
:mod:`gos_fx.ir.replacement`.
"""

from __future__ import annotations

from dataclasses import dataclass
from keyword import iskeyword

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.loops import loops_of
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.types import DTYPES, ROLES, Type

# Scans in the bodies of scans: deeper ones are no cell that anybody means.
DEEPEST = 4


@dataclass(frozen=True)
class Bounds:
    """Largest counts of Table 1 instructions and of edges between them (section 3.1).

    The paper's bounds are 1 < N <= 20 and 1 < E <= 25.
    """

    nodes: int = 20
    edges: int = 25


def verify(graph: Graph) -> Graph:
    """The graph itself, once it is known to be valid.

    Raises:
        VerifyError: a name cannot be printed or stands for two values, a value is used
            before it is defined or does not reach the output, an input is not one value
            with sizes from one on, a type is not what the instruction gives, a value
            has two tiles or unrolls or one of a loop that it lacks, or the output does
            not depend on the feature map; the same for the bodies of scans.
    """
    _verify(graph, DEEPEST)
    return graph


def _verify(graph: Graph, depth: int) -> None:
    if depth == 0:
        raise VerifyError(f"bodies are nested deeper than {DEEPEST - 1}", graph.name)
    _check_name(graph.name, graph)
    for value in graph.inputs:
        _check_input(value, graph)
    _check_ssa(graph)
    for body in graph.bodies:
        _verify(body, depth - 1)
    _check_reach(graph)
    _check_schedule(graph)


def count(graph: Graph) -> tuple[int, int]:
    """Instructions of Table 1 and the edges between them, as the bounds count them."""
    counted = {
        node.name
        for node in graph.nodes
        if node.declaration.table1 and not node.declaration.schedule
    }
    behind: dict[str, tuple[str, ...]] = {v.name: () for v in graph.inputs}
    edges = 0
    for node in graph.nodes:
        sources = [name for operand in node.operands for name in behind[operand]]
        if node.name in counted:
            edges += len(sources)
            behind[node.name] = (node.name,)
        else:  # free nodes hand on the instructions behind them
            behind[node.name] = tuple(dict.fromkeys(sources))
    return len(counted), edges


def check_bounds(graph: Graph, bounds: Bounds, original: Graph | None = None) -> None:
    """Refuse a graph beyond the bounds, unless the original already was as large.

    Raises:
        VerifyError: with the counts.
    """
    before = [] if original is None else [count(g) for g in _with_bodies(original)]
    allowed_nodes = max([bounds.nodes, *(nodes for nodes, _ in before)])
    allowed_edges = max([bounds.edges, *(edges for _, edges in before)])
    for part in _with_bodies(graph):
        nodes, edges = count(part)
        if nodes > allowed_nodes:
            raise VerifyError(
                f"{nodes} instructions, at most {allowed_nodes}", part.name
            )
        if edges > allowed_edges:
            raise VerifyError(f"{edges} edges, at most {allowed_edges}", part.name)


def _with_bodies(graph: Graph) -> list[Graph]:
    """The graph and the bodies of its scans, each of which has the bounds to itself."""
    inner = [part for body in graph.bodies for part in _with_bodies(body)]
    return [graph, *inner]


def _check_name(name: str, graph: Graph) -> None:
    if not name.isidentifier() or iskeyword(name):
        raise VerifyError(f"{name!r} is not a name", where=graph.name)


def _check_input(value: Input, graph: Graph) -> None:
    _check_name(value.name, graph)
    where = f"{graph.name}, {value.name}"
    if value.type.is_bundle:
        raise VerifyError("an input is one value, not a bundle", where)
    if value.type.role not in ROLES:
        raise VerifyError(f"{value.type.role!r} is no role", where)
    if value.type.role == "scalar":
        raise VerifyError("a scalar is written in the graph, not an input", where)
    if value.type.role == "map" and value.init is not None:
        raise VerifyError("a map has no projection", where)
    _check_type(value.type, where)


def _check_type(found: Type, where: str) -> None:
    for value in found.values:
        if value.dtype not in DTYPES:
            raise VerifyError(f"{value.dtype!r} is no dtype", where)
        for dim in value.shape:
            if isinstance(dim, int) and dim < 1:
                raise VerifyError(f"size {dim} of {value}", where)
    for symbol in sorted(found.symbols):
        if not symbol.isidentifier() or iskeyword(symbol) or symbol in DTYPES:
            raise VerifyError(f"{symbol!r} is no name of a size", where)


def _check_ssa(graph: Graph) -> None:
    types = {v.name: v.type for v in graph.inputs}
    if len(types) != len(graph.inputs):
        raise VerifyError("two inputs share a name", where=graph.name)
    for node in graph.nodes:
        where = f"{graph.name}, {node.name}"
        _check_name(node.name, graph)
        if node.name in types:
            raise VerifyError(f"{node.name} is defined twice", where=graph.name)
        for operand in node.operands:
            if operand not in types:
                raise VerifyError(f"{operand} is used before it is defined", where)
        _check_instruction(node, [types[o] for o in node.operands], where)
        _check_type(node.type, where)
        types[node.name] = node.type
    if graph.output not in types:
        raise VerifyError(f"{graph.output} is not defined", where=graph.name)


def _check_instruction(node: Node, operands: list[Type], where: str) -> None:
    if node.opcode not in OPCODES:
        raise VerifyError(
            f"there is no instruction {node.opcode}",
            where,
            OPCODES.suggest(node.opcode),
        )
    if len(node.attrs) != len(node.attributes):
        raise VerifyError("an attribute is given twice", where)
    try:
        inferred = node.declaration.infer(operands, node.attrs)
    except VerifyError as error:
        raise VerifyError(error.what, f"{where}: {node.opcode}", error.do) from None
    if inferred != node.type:
        raise VerifyError(f"{node.opcode} gives {inferred}, not {node.type}", where)


def _check_reach(graph: Graph) -> None:
    needed = reached(graph)
    for name in graph.types:
        if name not in needed:
            raise VerifyError(f"{name} does not reach the output", where=graph.name)
    if any(value.role != "map" for value in graph.result.values):
        raise VerifyError("the output does not depend on a map", where=graph.name)


def reached(graph: Graph) -> set[str]:
    """Names of the values that the output depends on.

    Of values that are handed on as one, those that are never taken out again are not.
    """
    needed = {graph.output}
    taken: dict[str, set[int]] = {}
    for node in reversed(graph.nodes):
        if node.name not in needed:
            continue
        if node.opcode == "bundle" and node.name in taken:
            needed.update(node.operands[i] for i in taken[node.name])
            continue
        needed.update(node.operands)
        if node.opcode == "result":
            taken.setdefault(node.operands[0], set()).add(node.attr("index"))
    return needed


def _check_schedule(graph: Graph) -> None:
    loops = loops_of(graph)
    steered: dict[str, str] = {}  # schedule node -> the value that it steers
    seen: set[tuple[str, str]] = set()
    for node in graph.nodes:
        if not node.declaration.schedule:
            continue
        source = steered.get(node.operands[0], node.operands[0])
        where = f"{graph.name}, {node.name}"
        if source not in graph.by_name:
            raise VerifyError(f"{node.opcode} stands on no instruction", graph.name)
        if (source, node.opcode) in seen:
            raise VerifyError(f"{source} has two of {node.opcode}", graph.name)
        for loop in node.attrs:
            if loop not in loops[source]:
                opcode = graph.by_name[source].opcode
                known = ", ".join(loops[source])
                do = f"use {known}" if known else "leave it out"
                raise VerifyError(f"{opcode} has no loop {loop}", where, do)
        steered[node.name] = source
        seen.add((source, node.opcode))
