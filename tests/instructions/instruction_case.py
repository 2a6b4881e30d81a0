"""One form of an instruction: a graph of it, operands, and what to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.ir.builder import Builder
from gos_fx.ir.graph import Graph
from gos_fx.ir.types import Type

MAP, SEQUENCE, FIVE = (2, 4, 5, 6), (2, 3, 4), (2, 3, 4, 2, 3)


@dataclass
class Case:
    """One instruction on values of these types; numbers stand for scalars.

    Attributes:
        formula: takes the operands that are arrays and the attributes.
        draw: how operands are drawn: see :func:`operands`.
        wrap: what stands around the instruction: its operands and how it is emitted.
        differentiable: in this form; the instruction may be in others.
    """

    values: list[Any]
    formula: Callable[..., Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    draw: str = "normal"
    wrap: Callable[..., str] | None = None
    differentiable: bool = True

    @property
    def types(self) -> list[Type]:
        return [value for value in self.values if isinstance(value, Type)]


def maps(*shapes: tuple[int, ...]) -> list[Type]:
    return [Type("map", shape) for shape in shapes]


def weight(*shape: int) -> Type:
    return Type("weight", shape)


def constant(*shape: int) -> Type:
    return Type("constant", shape)


def graph_of(opcode: str, case: Case) -> Graph:
    """A graph of the instruction alone, or of what the case wraps around it."""
    b = Builder(f"only_{opcode}")
    names = []
    for i, value in enumerate(case.values):
        if isinstance(value, Type):
            names.append(b.input(f"x{i}", value))
        else:
            names.append(b.emit("scalar", value=value))
    if case.wrap is not None:
        return b.build(case.wrap(b, opcode, *names, **case.attributes))
    return b.build(b.emit(opcode, *names, **case.attributes))


def operands(
    graph: Graph, draw: str, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Values of the inputs: normal numbers, made ``positive``, a ``definite`` or a
    ``deficient`` matrix; integers are small."""
    generator = torch.Generator().manual_seed(0)
    return {v.name: _drawn(v.type, draw, generator, dtype) for v in graph.inputs}


def _drawn(
    of: Type, draw: str, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    shape = [int(dim) for dim in of.shape]  # type: ignore[arg-type]
    if not of.dtype.startswith("float"):
        found = torch.randint(0, 5, shape, generator=generator)
        return found.to(getattr(torch, of.dtype))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if draw == "positive":
        x = x.abs() + 0.3
    elif draw == "definite":
        x = x @ x.transpose(-1, -2) + 0.5 * torch.eye(shape[-1], dtype=torch.float64)
    elif draw == "deficient":
        low = torch.randn((*shape[:-1], 2), generator=generator, dtype=torch.float64)
        x = low @ low.transpose(-1, -2) @ x
    # All dtypes begin with the same numbers.
    return x.float().to(dtype)


def _as_float64(part: Any) -> Tensor:
    if isinstance(part, np.ndarray):  # torch takes no reversed views
        part = torch.from_numpy(part.copy())
    return torch.as_tensor(part).double()


def comparable(opcode: str, found: Any) -> list[Tensor]:
    """Results as float64; for factors of a matrix also what they multiply to."""
    several = found if isinstance(found, tuple) else (found,)
    parts = [_as_float64(part) for part in several]
    match opcode, parts:
        case "svd", [u, s, vh]:
            return [*parts, u * s.unsqueeze(-2) @ vh, u.mT @ u, vh @ vh.mT]
        case "qr", [q, r]:
            return [*parts, q @ r, q.mT @ q, r.tril(-1)]
        case "eigh", [values, vectors]:
            product = vectors * values.unsqueeze(-2) @ vectors.mT
            return [*parts, product, vectors.mT @ vectors]
    return parts


# What stands around the instructions that cannot stand alone.


def added(b: Builder, opcode: str, x: str, **attributes: Any) -> str:
    """x + y of an instruction without operands."""
    return b.emit("add", x, b.emit(opcode, **attributes))


def scheduled(b: Builder, opcode: str, x: str, **attributes: Any) -> str:
    return b.append(opcode, [b.emit("sqrt", x)], attributes)


def unpacked(b: Builder, opcode: str, *values: str, **attributes: Any) -> str:
    part = b.emit(opcode, b.emit("bundle", *values), **attributes)
    return b.emit("sub", part, values[0])


def scanned(b: Builder, opcode: str, *values: str, reverse: bool) -> str:
    """Two states: h, and the sum of the h so far."""
    body = Builder("cell")
    x, h = (body.input(n, Type("map", (2, k))) for n, k in (("x", 3), ("h", 4)))
    total = body.input("total", Type("map", (2, 4)))
    u, v = body.input("u", weight(3, 4)), body.input("v", weight(4, 4))
    products = body.emit("matmul", x, u), body.emit("matmul", h, v)
    now = body.emit("tanh", body.emit("add", *products))
    cell = body.build(body.emit("bundle", now, body.emit("add", total, now)))
    given = dict(zip(("x", "h", "u", "v"), values, strict=True))
    given["total"] = given["h"]
    ordered = [given[value.name] for value in cell.inputs]
    return b.emit(opcode, *ordered, body=cell, states=("h", "total"), reverse=reverse)
