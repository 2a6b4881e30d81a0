"""Numbers that are known when code is generated become part of the instructions.

An element-wise instruction with a scalar operand becomes one that only the code
generator knows, with the number as an attribute: ``affine``, ``clip``, ``reciprocal``.
Two of them in a row are one where that is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gos_fx.ir.graph import Node

SCALAR = "scalar"
_INFINITE = float("inf")
Attributes = tuple[tuple[str, Any], ...]


def inline_scalars(nodes: Sequence[Node], outputs: Sequence[str]) -> tuple[Node, ...]:
    """The nodes with numbers in the place of scalars; names of values are kept.

    A scalar that another kind of instruction reads, or that is an output, stays.
    """
    numbers = {n.name: n.attr("value") for n in nodes if n.opcode == SCALAR}
    if not numbers:
        return tuple(nodes)
    changed = _merge([_immediate(node, numbers) for node in nodes], outputs)
    read = {name for node in changed for name in node.operands} | set(outputs)
    return tuple(n for n in changed if n.opcode != SCALAR or n.name in read)


def _merge(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    """Two such instructions in a row as one, where nothing else reads the first."""
    reads = Counter(name for node in nodes for name in node.operands)
    reads.update(outputs)
    kept: dict[str, Node] = {}
    for node in nodes:
        before = kept.get(node.operands[0]) if len(node.operands) == 1 else None
        found = None
        if before is not None and reads[before.name] == 1:
            found = _in_a_row(before, node)
        if found is not None and before is not None:
            del kept[before.name]
            opcode, attributes = found
            node = replace(
                node, opcode=opcode, operands=before.operands, attributes=attributes
            )
        kept[node.name] = node
    return list(kept.values())


def _in_a_row(first: Node, second: Node) -> tuple[str, Attributes] | None:
    if first.opcode == second.opcode == "affine":
        a, b = first.attrs, second.attrs
        scale, shift = a["scale"] * b["scale"], a["shift"] * b["scale"] + b["shift"]
        return _affine(scale, shift)
    one, two = _bounds(first), _bounds(second)
    if one is None or two is None:
        return None
    low, high = (min(max(bound, two[0]), two[1]) for bound in one)
    return _clip(low, high)


def _bounds(node: Node) -> tuple[float, float] | None:
    """Between what an instruction keeps its operand; None of any other."""
    if node.opcode == "relu" and node.attr("slope") == 0.0:
        return 0.0, _INFINITE
    return (node.attr("low"), node.attr("high")) if node.opcode == "clip" else None


def _immediate(node: Node, numbers: Mapping[str, float]) -> Node:
    rule = _RULES.get(node.opcode)
    if rule is None or len(node.operands) != 2 or node.attrs.get("axis"):
        return node
    known = [operand in numbers for operand in node.operands]
    if sum(known) != 1:
        return node
    number = numbers[node.operands[known.index(True)]]
    found = rule(number, known[0])
    if found is None:
        return node
    opcode, attributes = found
    operands = (node.operands[known.index(False)],)
    return replace(node, opcode=opcode, operands=operands, attributes=attributes)


def _affine(scale: float, shift: float) -> tuple[str, Attributes]:
    return "affine", (("scale", scale), ("shift", shift))


def _clip(low: float, high: float) -> tuple[str, Attributes]:
    if (low, high) == (0.0, _INFINITE):
        return "relu", (("slope", 0.0),)
    return "clip", (("low", low), ("high", high))


def _divide(number: float, is_first: bool) -> tuple[str, Attributes] | None:
    if is_first:
        return "reciprocal", (("scale", number),)
    return _affine(1.0 / number, 0.0) if number else None


# By instruction: its number and whether that comes first -> the instruction instead.
_RULES: dict[str, Callable[[float, bool], tuple[str, Attributes] | None]] = {
    "add": lambda c, first: _affine(1.0, c),
    "sum": lambda c, first: _affine(1.0, c),
    "mean": lambda c, first: _affine(0.5, 0.5 * c),
    "sub": lambda c, first: _affine(-1.0, c) if first else _affine(1.0, -c),
    "hadamard": lambda c, first: _affine(c, 0.0),
    "chain_rule": lambda c, first: _affine(c, 0.0),
    "div": _divide,
    "max": lambda c, first: _clip(c, _INFINITE),
    "min": lambda c, first: _clip(-_INFINITE, c),
}
