"""Instructions that move values, put them together or take them apart."""

from __future__ import annotations

from typing import Any

from benchmarks.random_graphs.declared import (
    FLOAT,
    TRAINED,
    VALUE,
    recipe,
    sizes,
)
from benchmarks.random_graphs.draw import Draw
from gos_fx.ir.opcode import OPCODES, Operand
from gos_fx.ir.types import AXES


@recipe("reshape")
def reshape(draw: Draw, opcode: str) -> str:
    x = draw.accepted(Operand(dtypes=FLOAT), lambda v: draw.types[v].rank > 0)
    shape = sizes(draw, x)
    for _ in range(draw.rng.randint(1, 3)):
        if len(shape) < 5 and draw.rng.random() < 0.5:
            at = draw.rng.randrange(len(shape))
            parts = [k for k in range(1, shape[at] + 1) if shape[at] % k == 0]
            part = draw.rng.choice(parts)
            shape[at : at + 1] = [part, shape[at] // part]
        elif len(shape) > 1:
            at = draw.rng.randrange(len(shape) - 1)
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
    return draw.emit(opcode, x, shape=tuple(shape))


@recipe("transpose")
def transpose(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE, lambda v: draw.types[v].rank > 1)
    axes = list(range(draw.types[x].rank))
    draw.rng.shuffle(axes)
    return draw.emit(opcode, x, axes=tuple(axes))


@recipe("slice")
def slice_(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE, lambda v: draw.types[v].rank > 0)
    axis = draw.rng.randrange(draw.types[x].rank)
    extent = sizes(draw, x)[axis]
    start, step = draw.rng.randrange(extent), draw.rng.randint(1, 3)
    size = draw.rng.randint(1, (extent - 1 - start) // step + 1)
    return draw.emit(opcode, x, axis=axis, start=start, size=size, step=step)


@recipe("pad")
def pad(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE, lambda v: draw.types[v].rank > 0)
    mode = draw.rng.choice(OPCODES[opcode].attributes["mode"].choices)
    amounts = []
    for extent in sizes(draw, x):
        most = {"reflect": extent - 1, "circular": extent}.get(mode, 2)
        amounts += [
            draw.rng.choice((0, draw.rng.randint(0, min(most, 2)))) for _ in "ab"
        ]
    return draw.emit(opcode, x, amounts=tuple(amounts), mode=mode)


@recipe("resize")
def resize(draw: Draw, opcode: str) -> str:
    more: dict[str, Any] = {}
    if draw.rng.random() < 0.6:
        more["mode"] = draw.rng.choice(OPCODES[opcode].attributes["mode"].choices)
    if more.get("mode") == "bilinear" and draw.rng.random() < 0.5:
        more["align"] = draw.rng.random() < 0.5
    size = draw.extent(), draw.extent()
    return draw.emit(opcode, draw.image(), size=size, **more)


@recipe("concat")
def concat(draw: Draw, opcode: str) -> str:
    x = draw.accepted(Operand(TRAINED, (1, 2, 3, 4, 5), FLOAT))
    type = draw.types[x]
    place = draw.rng.randrange(type.rank)

    def fits(name: str) -> bool:
        other = draw.types[name]
        mine, its = list(type.shape), list(other.shape)
        if other.rank != type.rank or other.role != type.role:
            return False
        mine[place] = its[place] = 0
        return mine == its

    others = [draw.accepted(VALUE, fits) for _ in range(draw.rng.randint(1, 2))]
    return draw.emit(opcode, x, *others, axis=AXES[type.rank][place])


@recipe("gather")
def gather(draw: Draw, opcode: str) -> str:
    rows = draw.extent(2)
    table = draw.input("weight", (rows, draw.extent()))
    shape = draw.shape(draw.rng.randint(1, 3))
    role = "map" if draw.maps < 3 else "constant"
    indices = draw.indices(role, shape, rows)
    if draw.rng.random() < 0.3:
        indices = draw.emit("flip", indices, axis=AXES[len(shape)][-1])
    return draw.emit(opcode, table, indices)


@recipe("cast")
def cast(draw: Draw, opcode: str) -> str:
    """To other numbers, something there, and back."""
    x = draw.accepted(VALUE, lambda v: draw.types[v].rank > 0)
    there = draw.emit(
        opcode, x, dtype=draw.rng.choice(("float32", "float16", "float64"))
    )
    if draw.rng.random() < 0.7:
        there = draw.emit(draw.rng.choice(("tanh", "sigmoid")), there)
    return draw.emit(opcode, there, dtype="float32")


@recipe("bundle", "result")
def bundle(draw: Draw, opcode: str) -> str:
    """Two values together, and each out again."""
    a = draw.accepted(VALUE, lambda v: not isinstance(draw.values[v], float))
    b = draw.accepted(VALUE, lambda v: not isinstance(draw.values[v], float))
    both = draw.emit("bundle", a, b)
    draw.emit("result", both, index=0)
    return draw.emit("result", both, index=1)
