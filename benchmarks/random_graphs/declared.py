"""Instructions by their declarations, unless a recipe says how.

Operands are of fitting roles, ranks and dtypes, attributes by kind, choices and range.
Recipes are for what must fit each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from benchmarks.random_graphs.draw import Draw, Dropped
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.opcode import OPCODES, Operand
from gos_fx.ir.types import AXES, channel_axis

Recipe = Callable[[Draw, str], str]
RECIPES: dict[str, Recipe] = {}
FLOAT = ("float32",)
TRAINED = ("map", "weight", "constant")
VALUE = Operand(dtypes=FLOAT)
MAP = Operand(("map",), dtypes=FLOAT)
MATRIX = Operand(TRAINED, (2, 3, 4), FLOAT)


def recipe(*opcodes: str) -> Callable[[Recipe], Recipe]:
    """Register how these are drawn."""

    def declare(function: Recipe) -> Recipe:
        for opcode in opcodes:
            RECIPES[opcode] = function
        return function

    return declare


def append(draw: Draw, opcode: str) -> str:
    """One instruction of this kind, and what it needs.

    Raises:
        Dropped: nothing fitted this time.
    """
    if opcode in RECIPES:
        return RECIPES[opcode](draw, opcode)
    return _declared(draw, opcode)


def _declared(draw: Draw, opcode: str) -> str:
    """Operands that broadcast to the first, attributes of legal values."""
    declaration = OPCODES[opcode]
    _, takes = declaration.operand(0)
    first = draw.accepted(
        Operand(takes.roles, takes.ranks, tuple({*takes.dtypes} & {*FLOAT}))
    )
    operands = [first]
    count = (
        draw.rng.randint(2, 3) if declaration.variadic else len(declaration.operands)
    )
    attributes = drawn_attributes(draw, opcode, draw.types[first].rank)
    if declaration.variadic and (attributes.get("axis") or "axis" not in attributes):
        count = 1
    operands += [beside(draw, first) for _ in range(count - 1)]
    draw.rng.shuffle(operands)
    if count > 1 and attributes.get("axis") == "":
        attributes.pop("keep", None)
    return draw.emit(opcode, *operands, **attributes)


def beside(draw: Draw, first: str) -> str:
    """A value that broadcasts with another: of its shape, along its channels, of axes
    of size one, a number; from the graph or new."""
    type = draw.types[first]
    kind = draw.rng.choice(("same", "same", "channels", "ones", "number", "new"))
    if kind == "number" or type.rank == 0:
        return draw.emit("scalar", value=round(draw.rng.uniform(0.5, 2.0), 3))
    if kind == "same":
        return draw.accepted(
            VALUE, lambda v: draw.types[v].shape == type.shape and v != first
        )
    if kind == "channels" and 2 <= type.rank <= 5:
        size = int(type.shape[channel_axis(type.rank)])  # type: ignore[arg-type]
        found = [
            v
            for v, t in draw.types.items()
            if t.shape == (size,) and t.role != "map" and t.dtype in FLOAT
        ]
        if found and draw.rng.random() < 0.5:
            return draw.rng.choice(found)
        return draw.input("weight", (size,))
    shape = [int(dim) for dim in type.shape]  # type: ignore[arg-type]
    if kind == "ones":
        shape = [n if draw.rng.random() < 0.5 else 1 for n in shape]
    return draw.input(draw.rng.choice(("weight", "constant")), shape)


def drawn_attributes(draw: Draw, opcode: str, rank: int) -> dict[str, Any]:
    found = {}
    for key, attribute in OPCODES[opcode].attributes.items():
        if attribute.optional and draw.rng.random() < 0.5:
            continue
        found[key] = _drawn(draw, attribute, rank)
    return found


def _drawn(draw: Draw, attribute: Attribute, rank: int) -> Any:
    rng = draw.rng
    match attribute.kind:
        case "flag":
            return rng.random() < 0.5
        case "axis":
            axes = AXES.get(rank, ())
            if attribute.default == "":  # aggregations also take several values
                axes = (*axes, "", "")
            if not axes:
                raise Dropped("a value without axes")
            return rng.choice(axes)
        case "real" if not attribute.choices:
            low = -2.0 if attribute.low is None else attribute.low
            high = 2.0 if attribute.high is None else attribute.high
            return round(rng.uniform(low, high), 3)
    if not attribute.choices:
        raise Dropped(f"no recipe for a {attribute.kind}")
    return rng.choice(attribute.choices)


def sizes(draw: Draw, name: str) -> list[int]:
    return [int(dim) for dim in draw.types[name].shape]  # type: ignore[arg-type]


def turned(draw: Draw, name: str) -> str:
    """The last two axes exchanged."""
    rank = draw.types[name].rank
    return draw.emit("transpose", name, axes=(*range(rank - 2), rank - 1, rank - 2))


def grow(draw: Draw, nodes: int, opcodes: Sequence[str], counts: Counter[str]) -> None:
    """Append about so many instructions; ``counts`` gets what was dropped."""
    wanted = len(draw.types) + nodes
    for _ in range(20 * nodes):
        if len(draw.types) >= wanted:
            return
        opcode = draw.rng.choice(opcodes)
        try:
            append(draw, opcode)
        except Dropped as error:
            counts[f"{opcode}: {error}"[:60]] += 1
