"""Numbers that must be positive, small, or far enough from zero."""

from __future__ import annotations

from benchmarks.random_graphs.declared import (
    FLOAT,
    TRAINED,
    VALUE,
    beside,
    drawn_attributes,
    recipe,
    sizes,
)
from benchmarks.random_graphs.draw import Draw
from gos_fx.ir.opcode import Operand
from gos_fx.ir.types import AXES

# Largest operand of an exponential, smallest divisor.
_MOST_POWER, _LEAST_DIVISOR = 4.0, 0.3


@recipe("scalar")
def scalar(draw: Draw, opcode: str) -> str:
    """A number, and what meets it: a value, or another number first."""
    a = draw.emit(opcode, value=round(draw.rng.uniform(-2.0, 2.0), 3))
    if draw.rng.random() < 0.2:
        b = draw.emit(opcode, value=round(draw.rng.uniform(0.5, 2.0), 3))
        a = draw.emit(draw.rng.choice(("add", "sub", "hadamard", "div")), a, b)
    x = draw.accepted(VALUE, lambda v: draw.types[v].role != "scalar")
    pair = (x, a) if draw.rng.random() < 0.5 else (a, x)
    reader = draw.rng.choice(("add", "sub", "hadamard", "max", "min", "chain_rule"))
    more = {"axis": ""} if reader in ("max", "min") else {}
    return draw.emit(reader, *pair, **more)


@recipe("exp")
def exponential(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE)
    value = draw.values[x]
    most = value if isinstance(value, float) else float(value.max())
    return draw.emit("exp", x if most < _MOST_POWER else draw.emit("tanh", x))


@recipe("sqrt")
def root(draw: Draw, opcode: str) -> str:
    return draw.emit("sqrt", draw.positive(draw.accepted(VALUE)))


@recipe("div")
def quotient(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE)
    other = beside(draw, x)
    if draw.rng.random() < 0.3:
        x, other = other, x
    value = draw.values[other]
    low = abs(value) if isinstance(value, float) else float(value.abs().min())
    return draw.emit(
        "div", x, other if low > _LEAST_DIVISOR else draw.positive(other, 0.2)
    )


@recipe("density")
def density(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE)
    mean, scale = beside(draw, x), draw.positive(beside(draw, x), 0.2)
    return draw.emit(opcode, x, mean, scale, **drawn_attributes(draw, opcode, 0))


@recipe("posterior")
def posterior(draw: Draw, opcode: str) -> str:
    likelihood = draw.positive(draw.accepted(Operand(TRAINED, (2, 3, 4, 5), FLOAT)))
    prior = draw.positive(beside(draw, likelihood))
    rank = draw.types[likelihood].rank
    return draw.emit(opcode, likelihood, prior, **drawn_attributes(draw, opcode, rank))


@recipe("weighted_mean")
def weighted_mean(draw: Draw, opcode: str) -> str:
    x = draw.accepted(Operand(TRAINED, (1, 2, 3, 4, 5), FLOAT))
    attributes = drawn_attributes(draw, opcode, draw.types[x].rank)
    place = AXES[draw.types[x].rank].index(attributes["axis"])
    w = draw.input("weight", (sizes(draw, x)[place],), positive=True)
    return draw.emit(opcode, x, w, **attributes)
