"""Draws valid graphs whose numbers are tame, every value of which is read.

Each instruction is computed as soon as it is drawn, also with a little noise behind
every instruction: what is not finite, too large, or moved too far by the noise is not
taken, so that code that rounds otherwise must still give nearly the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.random_graphs.values import POSITIVE, applied, as_double, numbers
from gos_fx.errors import VerifyError
from gos_fx.ir.builder import Builder
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.opcode import OPCODES, Operand
from gos_fx.ir.types import Type
from gos_fx.ir.verifier import Bounds

BOUNDS = Bounds(nodes=20, edges=25)
MOST_EXTENT = 9
MOST_ELEMENTS = 2000
_SMALLEST, _LARGEST = 1e-4, 1e3
# Noise behind each instruction, and how far it may move a result, as parts of scales.
_NOISE, _MOVED = 1e-6, 1e-5
_MOST_MAPS = 3
# Factorisations, and which of their results has no sign to choose.
FACTORS = {"svd": 1, "eigh": 0, "qr": None}
_LETTERS = {"map": "x", "weight": "w", "constant": "k"}


class Dropped(Exception):
    """A draw that came to nothing; the message says why."""


class Draw:
    """A graph that grows; its values are known."""

    def __init__(self, rng: random.Random, name: str = "f") -> None:
        self.rng = rng
        self.builder = Builder(name)
        self.values: dict[str, Any] = {}
        self.noisy: dict[str, Any] = {}
        self.unread: dict[str, None] = {}
        # Factors of a matrix: their signs are anybody's choice.
        self.ambiguous: set[str] = set()
        self.factored: dict[str, str] = {}
        self.maps = 0
        self._generator = torch.Generator().manual_seed(rng.getrandbits(32))

    @property
    def types(self) -> dict[str, Type]:
        return self.builder.types

    def input(self, role: str, shape: Sequence[int], *, positive: bool = False) -> str:
        """A new input of the graph with random numbers."""
        first = POSITIVE if positive else _LETTERS[role]
        name = f"{first}{len(self.types)}"
        return self.declare(Input(name, Type(role, tuple(shape))))

    def indices(self, role: str, shape: Sequence[int], rows: int) -> str:
        """A new input of integers from 0 on below ``rows``."""
        type = Type(role, tuple(shape), "int64")
        return self.declare(Input(f"i{rows}_{len(self.types)}", type))

    def declare(self, value: Input) -> str:
        """A new input of this name."""
        self.builder.input(value.name, value.type)
        self.maps += value.type.role == "map"
        self.values[value.name] = as_double(numbers(value))
        self.noisy[value.name] = self.values[value.name]
        self.unread[value.name] = None
        return value.name

    def emit(self, opcode: str, *operands: str, **attributes: Any) -> str:
        """Append an instruction.

        Raises:
            Dropped: it does not take the operands, or its numbers are not tame.
        """
        declaration = OPCODES[opcode]
        try:
            found = declaration.infer([self.types[o] for o in operands], attributes)
        except VerifyError as error:
            raise Dropped(error.what) from None
        extents = [int(dim) for part in found.values for dim in part.shape]  # type: ignore[arg-type]
        if min(extents, default=1) < 1:
            raise Dropped("a window larger than what it sees")
        if int(found.elements) > MOST_ELEMENTS:  # type: ignore[arg-type]
            raise Dropped("too many elements")
        node = Node("", opcode, operands, tuple(attributes.items()), found)
        value = self._applied(node, self.values)
        noisy = self._disturbed(self._applied(node, self.noisy))
        is_factor = opcode in FACTORS or self._is_ambiguous(node)
        if not is_factor:
            self._check(value, noisy, found)
        name = self.builder.emit(opcode, *operands, **attributes)
        self.values[name], self.noisy[name] = value, noisy
        for operand in operands:
            self.unread.pop(operand, None)
        self.unread[name] = None
        if is_factor:
            self.ambiguous.add(name)
        if opcode in FACTORS:
            self.factored[name] = opcode
        return name

    def reconstruct(self, opcode: str, *factors: str) -> str:
        """Append an instruction of factors whose result has no sign to choose."""
        hidden = self.ambiguous & {*factors}
        self.ambiguous -= hidden
        try:
            return self.emit(opcode, *factors)
        finally:
            self.ambiguous |= hidden

    def _is_ambiguous(self, node: Node) -> bool:
        if node.opcode == "result" and node.operands[0] in self.factored:
            return node.attr("index") != FACTORS[self.factored[node.operands[0]]]
        return not self.ambiguous.isdisjoint(node.operands)

    def _applied(self, node: Node, values: dict[str, Any]) -> Any:
        like = torch.zeros((), dtype=torch.float64)
        operands = [values[name] for name in node.operands]
        if node.opcode == "cast" and node.attr("dtype").startswith("float"):
            return as_double(operands[0].double())
        return applied(node, operands, like)

    def _disturbed(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._disturbed, value))
        if isinstance(value, float) or not value.is_floating_point():
            return value
        noise = torch.randn(value.shape, generator=self._generator, dtype=value.dtype)
        return value + _NOISE * _scale(value) * noise

    def _check(self, value: Any, noisy: Any, type: Type) -> None:
        if isinstance(value, tuple):
            for one, other, part in zip(value, noisy, type.parts, strict=True):
                self._check(one, other, part)
            return
        if isinstance(value, float) or not value.is_floating_point():
            return
        if list(value.shape) != list(type.shape):
            raise AssertionError(f"{type} has shape {list(value.shape)}")
        if not torch.isfinite(value).all():
            raise Dropped("not finite")
        largest = float(value.abs().max())
        if largest > _LARGEST:
            raise Dropped("too large")
        if 0.0 < largest < _SMALLEST:
            raise Dropped("too small")
        if float((value - noisy).abs().max()) > _MOVED * _scale(value):
            raise Dropped("ill-conditioned")

    def accepted(
        self, operand: Operand, where: Callable[[str], bool] | None = None
    ) -> str:
        """A value that an instruction takes, rather one that nobody has read yet.

        Raises:
            Dropped: there is none.
        """
        found = [
            name
            for name, type in self.types.items()
            if name not in self.ambiguous
            and not operand.refuses(type)
            and (where is None or where(name))
        ]
        if not found:
            raise Dropped("no value is taken")
        weights = [4 if name in self.unread else 1 for name in found]
        return self.rng.choices(found, weights)[0]

    def extent(self, low: int = 1) -> int:
        return self.rng.randint(low, MOST_EXTENT)

    def shape(self, rank: int) -> tuple[int, ...]:
        """A shape of a feature map; the first axis is the batch."""
        batch = self.rng.randint(1, 2)
        most = {4: 6, 5: 3}.get(rank, MOST_EXTENT)
        return (batch, *(self.rng.randint(1, most) for _ in range(rank - 1)))

    def new_map(self, rank: int) -> str:
        """A feature map; a new input while there are few.

        Raises:
            Dropped: there are inputs enough.
        """
        if self.maps >= _MOST_MAPS:
            raise Dropped("inputs enough")
        return self.input("map", self.shape(rank))

    def image(self, rank: int = 4) -> str:
        """A feature map of this rank that there is, or a new one."""
        operand = Operand(("map",), (rank,), ("float32",))
        if self.rng.random() < 0.8:
            try:
                return self.accepted(operand)
            except Dropped:
                pass
        return self.new_map(rank)

    def positive(self, name: str, least: float = 0.05) -> str:
        """The value if it is positive, else one made from it that is."""
        value = self.values[name]
        low = value if isinstance(value, float) else float(value.min())
        if low >= least:
            return name
        found = self.emit("sigmoid", name)
        if float(torch.as_tensor(self.values[found]).min()) < least:
            raise Dropped("not positive")
        return found

    def finish(self, output: str) -> Graph:
        return self.builder.build(output)


def _scale(value: Tensor) -> float:
    return float(value.abs().max()) or 1.0
