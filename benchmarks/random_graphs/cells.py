"""Scans over random cells."""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.random_graphs.declared import grow, recipe
from benchmarks.random_graphs.draw import Draw, Dropped
from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph, Input
from gos_fx.ir.opcode import Operand
from gos_fx.ir.types import Type
from gos_fx.ir.verifier import verify

_SEQUENCE = Operand(("map",), (3, 4), ("float32",))
# Instructions of a cell: its states are drawn back between -1 and 1 at the end.
_INSIDE = (
    *("add", "sub", "hadamard", "tanh", "sigmoid", "relu", "matmul", "max", "mean"),
    *("softmax", "div", "exp", "transpose", "reshape", "concat", "slice", "density"),
    *("vector_norm", "dot", "matvec", "outer", "flip", "svd", "chain_rule", "erf"),
)


@recipe("scan")
def scan(draw: Draw, opcode: str) -> str:
    """A scan over the axis behind the batch of a feature map, and one of its states."""
    x = draw.accepted(_SEQUENCE)
    batch, _, *rest = (int(dim) for dim in draw.types[x].shape)  # type: ignore[arg-type]
    shapes = [(batch, *rest)]
    shapes += [(batch, draw.extent()) for _ in range(draw.rng.randint(1, 2))]
    body = _body(draw, shapes)
    states = tuple(f"h{i}" for i in range(len(shapes) - 1))
    operands = [x]
    for value in body.inputs[1:]:
        shape = [int(dim) for dim in value.type.shape]  # type: ignore[arg-type]
        if value.name not in states:
            operands.append(draw.input("weight", shape, positive=value.name[0] == "p"))
        elif draw.rng.random() < 0.5:
            operands.append(draw.emit("zeros", shape=tuple(shape)))
        else:
            operands.append(draw.input("weight", shape))
    more: dict[str, Any] = {"reverse": True} if draw.rng.random() < 0.3 else {}
    every = draw.emit(opcode, *operands, body=body, states=states, **more)
    taken = [draw.emit("result", every, index=i) for i in range(len(states))]
    return taken[-1]


def _body(draw: Draw, shapes: list[tuple[int, ...]]) -> Graph:
    """A cell of a step and states of these shapes."""
    cell = Draw(draw.rng, "cell")
    names = ["x", *(f"h{i}" for i in range(len(shapes) - 1))]
    for name, shape in zip(names, shapes, strict=True):
        cell.declare(Input(name, Type("map", shape)))
    cell.maps = 9  # no further inputs but weights
    grow(cell, draw.rng.randint(1, 4), _INSIDE, Counter())
    ends = [name for name in cell.unread if name not in names]
    ends += [name for name in names if name in cell.unread]
    if any(v in cell.ambiguous or cell.types[v].is_bundle for v in ends):
        raise Dropped("a factor or a bundle is left in a cell")
    rows = []
    for name in ends:
        size = cell.types[name].elements
        assert isinstance(size, int)
        rows.append(cell.emit("reshape", name, shape=(1, size)))
    total = _sum_of_means(cell, rows)
    following = []
    for name, shape in zip(names[1:], shapes[1:], strict=True):
        gain = cell.input("weight", shape)
        moved = cell.emit("add", cell.emit("hadamard", gain, total), name)
        following.append(cell.emit("tanh", moved))
    output = following[0]
    if len(following) > 1:
        output = cell.emit("bundle", *following)
    try:
        return verify(cell.finish(output))
    except VerifyError as error:
        raise Dropped(error.what) from None


def _sum_of_means(cell: Draw, rows: list[str]) -> str:
    means = [
        cell.emit("mean", row, axis="co", keep=True)
        for row in rows
        if cell.types[row].role == "map"
    ]
    others = [row for row in rows if cell.types[row].role != "map"]
    if not means:
        raise Dropped("no map is left in a cell")
    total = means[0]
    for name in means[1:]:
        total = cell.emit("add", total, name)
    for name in others:
        total = cell.emit("add", total, cell.emit("mean", name, axis="co", keep=True))
    return total
