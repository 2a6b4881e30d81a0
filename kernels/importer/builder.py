"""A network in the making: values by name, equal instructions once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.network import Network
from gos_fx.ir.types import Type


@dataclass(frozen=True)
class Value:
    """A feature map, or what is computed from weights, of the network being built."""

    name: str
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


Operand = Value | Tensor


class Builder:
    """Instructions in the order in which torch calls what they are made of.

    ``owner`` is noted for what is emitted. Constants are tensors until an instruction
    reads them; ``bound`` then has what stands for each input, by its name.
    """

    def __init__(self) -> None:
        self.owner = ""
        self.bound: dict[str, Any] = {}
        self._inputs: dict[str, Input] = {}
        self._constants: dict[int, Value] = {}
        self._nodes: dict[str, Node] = {}
        self._owners: dict[str, str] = {}
        self._known: dict[Any, str] = {}

    @property
    def is_empty(self) -> bool:
        return not self._nodes

    def map(self, expression: Any, shape: Sequence[int]) -> Value:
        """A feature map that comes from outside."""
        return self._input(expression, Type("map", tuple(shape)))

    def value(self, operand: Operand, role: str = "constant") -> Value:
        """A value as it is, or a constant as an input."""
        if isinstance(operand, Value):
            return operand
        found = self._constants.get(id(operand))
        if found is None:  # ``bound`` keeps the tensor, so that its id stays its own
            dtype = str(operand.dtype).removeprefix("torch.")
            of = Type(role, tuple(operand.shape), dtype)
            found = self._input(operand, of)
            self._constants[id(operand)] = found
        return found

    def emit(
        self,
        opcode: str,
        *operands: Operand,
        out: Sequence[int],
        **attributes: Any,
    ) -> Value:
        """The result, of shape ``out``, of an instruction; of an equal one before."""
        values = [self.value(operand) for operand in operands]
        is_map = any(self._type(v.name).role == "map" for v in values)
        of = Type("map" if is_map else "weight", tuple(out))
        names = tuple(value.name for value in values)
        return self._add(opcode, names, tuple(attributes.items()), of)

    def inline(self, graph: Graph, operands: Iterable[Operand]) -> Any:
        """The result of a concrete graph, its schedule nodes included; a tuple where
        that is a bundle."""
        names = {
            declared.name: self.value(operand, declared.type.role).name
            for declared, operand in zip(graph.inputs, operands, strict=True)
        }
        for node in graph.nodes:
            found = tuple(names[name] for name in node.operands)
            of = node.type
            if any(self._type(name).role == "map" for name in found):
                of = _as_map(of)  # weights that another layer computes
            value = self._add(node.opcode, found, node.attributes, of)
            names[node.name] = value.name
        name = names[graph.output]
        of = self._type(name)
        if not of.is_bundle:
            return Value(name, _sizes(of))
        last = graph.by_name[graph.output]
        if last.opcode == "bundle":
            parts = (names[part] for part in last.operands)
            return tuple(Value(part, _sizes(self._type(part))) for part in parts)
        return tuple(
            self._add("result", (name,), (("index", i),), part)
            for i, part in enumerate(of.parts)
        )

    def network(self, outputs: Sequence[Value]) -> Network:
        """What these values need, in order."""
        needed = {value.name for value in outputs}
        nodes = []
        for node in reversed(self._nodes.values()):
            if node.name in needed:
                needed |= set(node.operands)
                nodes.append(node)
        return Network(
            tuple(v for v in self._inputs.values() if v.name in needed),
            tuple(reversed(nodes)),
            tuple(dict.fromkeys(value.name for value in outputs)),
            {node.name: self._owners[node.name] for node in nodes},
        )

    def _add(
        self,
        opcode: str,
        operands: tuple[str, ...],
        attributes: tuple[tuple[str, Any], ...],
        of: Type,
    ) -> Value:
        key = (opcode, operands, tuple(sorted(attributes)))
        name = self._known.get(key)
        if name is None:
            name = self._known[key] = f"v{len(self._nodes)}"
            self._nodes[name] = Node(name, opcode, operands, attributes, of)
            self._owners[name] = self.owner
        return Value(name, _sizes(of))

    def _input(self, bound: Any, of: Type) -> Value:
        prefix = "x" if of.role == "map" else "w"
        name = f"{prefix}{len(self._inputs)}"
        self._inputs[name] = Input(name, of)
        self.bound[name] = bound
        return Value(name, _sizes(of))

    def _type(self, name: str) -> Type:
        found = self._nodes.get(name) or self._inputs[name]
        return found.type


def _as_map(of: Type) -> Type:
    parts = tuple(replace(part, role="map") for part in of.parts)
    return replace(of, role="map", parts=parts)


def _sizes(of: Type) -> tuple[int, ...]:
    return tuple(int(size) for size in of.shape)  # type: ignore[arg-type]
