"""Typed construction: every instruction is checked when it is appended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.projection import Projection
from gos_fx.ir.types import Type


class Builder:
    """Appends inputs and instructions; ``build`` freezes them into a graph."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.types: dict[str, Type] = {}
        self._inputs: list[Input] = []
        self._nodes: list[Node] = []

    def input(self, name: str, type: Type, init: Projection | None = None) -> str:
        """Declare a feature map or a weight; returns its name."""
        self._define(name, type)
        self._inputs.append(Input(name, type, init))
        return name

    def emit(
        self, opcode: str, *operands: str, name: str | None = None, **attributes: Any
    ) -> str:
        """Append an instruction; missing attributes take their defaults.

        Raises:
            VerifyError: unknown operand, or types the instruction does not take.
        """
        return self.append(opcode, operands, attributes, name)

    def append(
        self,
        opcode: str,
        operands: Sequence[str],
        attributes: Mapping[str, Any],
        name: str | None = None,
    ) -> str:
        """:meth:`emit` for attributes of any name."""
        declaration, attributes = OPCODES[opcode], dict(attributes)
        for key, attribute in declaration.attributes.items():
            filled = not (attribute.solved or attribute.optional)
            if filled and attribute.default is not None:
                attributes.setdefault(key, attribute.default)
        for operand in operands:
            if operand not in self.types:
                raise VerifyError(f"{operand} is not defined", where=self.name)
        result = declaration.infer([self.types[o] for o in operands], attributes)
        name = name or self._fresh()
        self._define(name, result)
        ordered = tuple(
            (key, attributes[key])
            for key in (declaration.attributes or attributes)
            if key in attributes
        )
        self._nodes.append(Node(name, opcode, tuple(operands), ordered, result))
        return name

    def build(self, output: str) -> Graph:
        """The frozen graph, maps before weights, nodes renumbered v0, v1, ..."""
        inputs = sorted(self._inputs, key=lambda value: value.type.role != "map")
        return Graph(self.name, tuple(inputs), tuple(self._nodes), output).renumbered()

    def _fresh(self) -> str:
        index = len(self._nodes)
        while f"v{index}" in self.types:
            index += 1
        return f"v{index}"

    def _define(self, name: str, type: Type) -> None:
        if name in self.types:
            raise VerifyError(f"{name} is defined twice", where=self.name)
        self.types[name] = type
