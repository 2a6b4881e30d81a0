"""Which instructions take given operands, read off the declarations and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.opcode import OPCODES, Opcode, broadcast
from gos_fx.ir.types import Type

Attributes = tuple[tuple[str, Any], ...]


@lru_cache(maxsize=1 << 16)
def _inferred(opcode: str, types: tuple[Type, ...], attributes: Attributes) -> Any:
    try:
        return OPCODES[opcode].infer(types, dict(attributes))
    except VerifyError:
        return None


def fits(
    opcode: str, types: Sequence[Type], result: Type, attributes: Attributes
) -> bool:
    """Whether the declaration takes these operands and gives this type."""
    return bool(_inferred(opcode, tuple(types), attributes) == result)


def defaults(opcode: Opcode) -> dict[str, Any]:
    """The attributes that a builder fills in."""
    return {
        key: attribute.default
        for key, attribute in opcode.attributes.items()
        if attribute.default is not None
        and not (attribute.solved or attribute.optional)
    }


@lru_cache(maxsize=1 << 14)
def candidates(
    types: tuple[Type, ...], result: Type, given: Attributes = ()
) -> tuple[tuple[str, Attributes], ...]:
    """Instructions of Table 1 of this arity and these types, with their attributes.

    Of ``given`` they take those that they know by name; the others are defaults.
    """
    found = []
    for name in OPCODES:
        opcode = OPCODES[name]
        if opcode.schedule or not opcode.table1 or not _takes(opcode, types, result):
            continue
        attributes = defaults(opcode)
        attributes |= {k: v for k, v in given if k in opcode.attributes}
        ordered = tuple(
            (k, attributes[k]) for k in opcode.attributes if k in attributes
        )
        if fits(name, types, result, ordered):
            found.append((name, ordered))
    return tuple(found)


def _takes(opcode: Opcode, types: tuple[Type, ...], result: Type) -> bool:
    if opcode.variadic:  # of one value it leaves that as it is, or takes an axis away
        return len(types) >= 2 or types != (result,)
    return len(opcode.operands) == len(types)


def alternatives(graph: Graph, node: Node) -> tuple[tuple[str, Attributes], ...]:
    """Other instructions that could stand in a node's place."""
    types = tuple(graph.types[name] for name in node.operands)
    found = candidates(types, node.type, node.attributes)
    return tuple(pair for pair in found if pair[0] != node.opcode)


def computes(node: Node) -> bool:
    """Whether an instruction may be exchanged: of Table 1, or element-wise."""
    declaration = node.declaration
    return not declaration.schedule and (
        declaration.table1 or declaration.shape is broadcast
    )
