"""What a rule of the canonical form is: one instruction, seen with its operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gos_fx.ir.graph import Node
from gos_fx.ir.types import Type


class Values(Protocol):
    """The values that there are so far; ``emit`` simplifies what it is given."""

    @property
    def types(self) -> Mapping[str, Type]: ...

    def node(self, name: str) -> Node | None: ...

    def emit(
        self, opcode: str, operands: tuple[str, ...], attributes: Mapping[str, Any]
    ) -> str: ...


@dataclass(frozen=True)
class Match:
    """An instruction that is about to be appended, and what it would give."""

    values: Values
    opcode: str
    operands: tuple[str, ...]
    attributes: Mapping[str, Any]
    type: Type

    def type_of(self, name: str) -> Type:
        return self.values.types[name]

    def source(self, name: str, *opcodes: str) -> Node | None:
        """The instruction that gives a value, if it is one of these."""
        node = self.values.node(name)
        return node if node is not None and node.opcode in opcodes else None

    def number(self, name: str) -> float | None:
        """The number that a scalar is, or that all elements of zeros are."""
        node = self.source(name, "scalar", "zeros")
        if node is None:
            return None
        return float(node.attr("value")) if node.opcode == "scalar" else 0.0

    def emit(self, opcode: str, *operands: str, **attributes: Any) -> str:
        return self.values.emit(opcode, operands, attributes)

    def again(self, *operands: str) -> str:
        """The same instruction on other operands."""
        return self.values.emit(self.opcode, operands, self.attributes)


# Gives the value instead, or None; one of another type than the instruction's is not
# taken, so a rule need not look at broadcasting.
Rule = Callable[[Match], str | None]
RULES: dict[str, list[Rule]] = {}


def rule(*opcodes: str) -> Callable[[Rule], Rule]:
    """Register a rule; its docstring reads ``before -> after``."""

    def declare(function: Rule) -> Rule:
        for opcode in opcodes:
            RULES.setdefault(opcode, []).append(function)
        return function

    return declare
