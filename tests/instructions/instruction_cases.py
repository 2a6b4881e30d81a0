"""Every instruction in each of its forms: operands, attributes, and the formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from instruction_formulas import (
    Array,
    average,
    bilinear,
    channels,
    correlate,
    density,
    determinant,
    differences,
    each,
    eigenvectors,
    inverted,
    largest,
    lower,
    nearest,
    normalised,
    padded,
    recurrence,
    singular,
    sliced,
)
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


def scan_formula(x: Array, h: Array, u: Array, v: Array, *, reverse: bool) -> Any:
    seen = recurrence(x, h, u, v, reverse=reverse)
    order = -1 if reverse else 1
    return seen, h[:, None] + seen[:, ::order].cumsum(1)[:, ::order]


# Families of cases.


def correlation(
    w: tuple[int, ...],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    padding: tuple[int, ...] = (0, 0, 0, 0),
) -> Case:
    attributes = {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "padding": padding,
    }
    return Case([*maps(MAP), weight(*w)], correlate, attributes)


def pool(include_pad: bool | None, stride: int, padding: tuple[int, ...]) -> Case:
    attributes: dict[str, Any] = {"kernel": (3, 2), "stride": (stride, stride)}
    if include_pad is None:
        return Case(maps(MAP), largest, attributes | {"padding": padding})
    attributes |= {"include_pad": include_pad, "padding": padding}
    return Case(maps(MAP), average, attributes)


NAMES = {2: "n co", 3: "n t co", 4: "n co ho wo", 5: "n co ci ho wo"}


def aggregation(function: Any, several: Callable[..., Array]) -> list[Case]:
    """Over an axis, kept or not; over several values; over values and a number."""

    def over(x: Array, axis: str, keep: bool = False) -> Array:
        found: Array = function(x, NAMES[x.ndim].split().index(axis), keepdims=keep)
        return found

    return [
        Case(maps(FIVE), over, {"axis": "ci"}),
        Case(maps(SEQUENCE), over, {"axis": "t"}),
        Case(maps((3, 4)), over, {"axis": "co"}),
        Case(maps(MAP), over, {"axis": "wo", "keep": True}),
        Case(maps(MAP), over, {"axis": "co", "keep": True}),
        Case(maps(MAP, MAP, MAP), lambda *v, axis: several(*v), {"axis": ""}),
        Case([*maps(MAP), 0.25], lambda x, axis: several(x, 0.25), {"axis": ""}),
        Case(
            [-0.5, *maps(MAP), weight(4)],
            lambda x, w, axis: several(x, channels(w), -0.5),
            {"axis": ""},
        ),
    ]


def _mean(*values: Any) -> Array:
    total: Array = sum(values) / len(values)
    return total


def _matrix_norm(ord: str) -> Callable[..., Array]:
    order: Any = {"1": 1, "2": 2, "inf": np.inf, "nuclear": "nuc"}[ord]
    return each(lambda x, ord: np.linalg.norm(x, order))


def _vector_norm(x: Array, ord: str, axis: str, keep: bool = False) -> Array:
    """Of the last axis."""
    power = {"1": 1, "2": 2, "inf": 0}[ord]
    if not power:
        return np.abs(x).max(-1, keepdims=keep)
    total: Array = (np.abs(x) ** power).sum(-1, keepdims=keep) ** (1 / power)
    return total


def norms() -> list[Case]:
    cases = []
    for ord in ("1", "2", "inf"):
        plain = {"ord": ord, "axis": "co"}
        cases.append(Case(maps(SEQUENCE), _vector_norm, plain))
        kept = {"ord": ord, "axis": "wo", "keep": True}
        cases.append(Case(maps(MAP), _vector_norm, kept))
    return cases


def pads() -> list[Case]:
    amounts = {
        "zeros": (1, 0, 0, 2, 1, 3, 0, 1),
        "reflect": (0, 0, 1, 2, 4, 3, 0, 1),
        "replicate": (0, 0, 1, 0, 7, 3, 0, 1),
        "circular": (0, 0, 4, 1, 1, 3, 0, 1),
    }
    return [
        *(
            Case(maps(MAP), padded, {"amounts": a, "mode": m})
            for m, a in amounts.items()
        ),
        Case(maps((3, 4)), padded, {"amounts": (0, 0, 3, 2), "mode": "reflect"}),
    ]


def densities() -> list[Case]:
    cases = []
    for name in ("normal", "laplace", "logistic"):
        attributes = {"distribution": name}
        values = [*maps(MAP), weight(4), constant(4)]
        cases.append(
            Case(
                values,
                lambda x, m, s, distribution: density(
                    x, channels(m), channels(s), distribution=distribution
                ),
                attributes,
                draw="positive",
            )
        )
        cases.append(
            Case(
                [*maps(MAP), 0.25, 1.5],
                lambda x, distribution: density(
                    x, np.array(0.25), np.array(1.5), distribution=distribution
                ),
                attributes,
            )
        )
    return cases


SQUARE, TALL, WIDE = maps((3, 4, 4)), maps((2, 6, 3)), maps((2, 3, 5))
# A matrix for each channel of an image; it lies otherwise in the memory of a network.
SQUARES = maps((2, 3, 4, 4))
BIAS = [*maps(MAP), weight(4)]
ROW = maps(MAP, (2, 4, 1, 6))

_CASES: dict[str, list[Case]] = {
    "scalar": [
        Case(maps(MAP), lambda x, value: x + value, {"value": 3.25}, wrap=added)
    ],
    "add": [
        Case(maps(MAP, MAP), lambda a, b: a + b),
        Case(BIAS, lambda a, b: a + channels(b)),
        Case([*maps(SEQUENCE), weight(4)], lambda a, b: a + b),
        Case([weight(4), *maps(MAP)], lambda b, a: a + channels(b)),
        Case(ROW, lambda a, b: a + b),
        Case([0.5, *maps(MAP)], lambda x: x + 0.5),
    ],
    "sub": [
        Case(maps(MAP, MAP), lambda a, b: a - b),
        Case([weight(4), *maps(MAP)], lambda b, a: channels(b) - a),
        Case([0.5, *maps(MAP)], lambda x: 0.5 - x),
        Case([*maps(MAP), 0.5], lambda x: x - 0.5),
    ],
    "hadamard": [
        Case(BIAS, lambda a, b: a * channels(b)),
        Case(ROW, lambda a, b: a * b),
        Case([*maps(MAP), -3.0], lambda x: -3 * x),
    ],
    "div": [
        Case(BIAS, lambda a, b: a / channels(b), draw="positive"),
        Case([2.0, *maps(MAP)], lambda x: 2 / x, draw="positive"),
        Case([*maps(MAP), 3.0], lambda x: x / 3),
    ],
    "sqrt": [Case(maps(MAP), np.sqrt, draw="positive")],
    "exp": [Case(maps(MAP), np.exp)],
    "erf": [Case(maps(MAP), np.vectorize(math.erf))],
    "relu": [
        Case(maps(MAP), lambda x, slope: np.maximum(x, 0), {"slope": 0.0}),
        Case(maps(MAP), lambda x, slope: np.where(x > 0, x, x / 10), {"slope": 0.1}),
    ],
    "sigmoid": [Case(maps(MAP), lambda x: 1 / (1 + np.exp(-x)))],
    "tanh": [Case(maps(MAP), np.tanh)],
    "softmax": [
        Case(maps(MAP), lambda x, axis: normalised(x, 1), {"axis": "co"}),
        Case(maps(SEQUENCE), lambda x, axis: normalised(x, 2), {"axis": "co"}),
        Case(maps(MAP), lambda x, axis: normalised(x, 3), {"axis": "wo"}),
    ],
    "matmul": [
        Case([*maps((3, 4)), weight(4, 5)], lambda a, b: a @ b),
        Case([*maps((2, 3, 4)), weight(4, 5)], lambda a, b: a @ b),
        Case(maps((2, 3, 4), (2, 4, 5)), lambda a, b: np.einsum("bik,bkj->bij", a, b)),
        Case([weight(3, 4), *maps((2, 4, 5))], lambda a, b: a @ b),
        Case(maps((2, 3, 4, 5), (2, 3, 5, 2)), lambda a, b: a @ b),
    ],
    "matvec": [
        Case(maps((2, 3, 4), (2, 4)), lambda a, x: np.einsum("bik,bk->bi", a, x)),
        Case([weight(3, 4), *maps((2, 5, 4))], lambda a, x: x @ a.T),
        Case([*maps(MAP), weight(6)], lambda a, x: a @ x),
    ],
    "dot": [
        Case(maps(SEQUENCE, SEQUENCE), lambda a, b: np.einsum("...i,...i", a, b)),
        Case([weight(6), *maps(MAP)], lambda a, b: b @ a),
    ],
    "outer": [
        Case(maps((2, 3), (2, 5)), lambda a, b: np.einsum("bi,bj->bij", a, b)),
        Case([*maps(SEQUENCE), weight(5)], lambda a, b: a[..., None] * b),
        Case([*maps(MAP), weight(3)], lambda a, b: a[..., None] * b),
    ],
    "kron": [
        Case(maps((2, 3, 4), (2, 5, 2)), each(np.kron)),
        Case([*maps((2, 3, 4)), weight(2, 3)], each(np.kron)),
        Case(maps((2, 3, 4, 2), (2, 3, 1, 3)), each(np.kron)),
    ],
    "trace": [Case(x, lambda x: np.einsum("...ii", x)) for x in (SQUARE, SQUARES)],
    "det": [Case(x, each(determinant)) for x in (SQUARE, SQUARES, maps((2, 1, 1)))],
    "inverse": [Case(x, each(inverted)) for x in (SQUARE, SQUARES, maps((5, 5)))],
    "cholesky": [
        Case(x, lambda x: np.linalg.cholesky(lower(x)), draw="definite")
        for x in (SQUARE, SQUARES)
    ],
    "eigh": [Case(x, eigenvectors) for x in (SQUARE, SQUARES)],
    "svd": [Case(x, singular) for x in (SQUARE, TALL, WIDE, maps(MAP))],
    "qr": [
        Case(x, lambda x: tuple(np.linalg.qr(x)))
        for x in (SQUARE, TALL, WIDE, maps(MAP))
    ],
    "pinv": [
        *(Case(x, np.linalg.pinv) for x in (SQUARE, TALL, WIDE, maps(MAP))),
        Case(
            maps((2, 6, 4)),
            lambda x: np.linalg.pinv(x, rcond=1e-6),
            draw="deficient",
            differentiable=False,
        ),
    ],
    "matrix_rank": [
        Case(TALL, lambda x: np.full(2, 3.0)),
        Case(maps((3, 5, 6)), lambda x: np.full(3, 2.0), draw="deficient"),
    ],
    "vector_norm": norms(),
    "matrix_norm": [
        Case(TALL, _matrix_norm(ord), {"ord": ord})
        for ord in ("1", "2", "inf", "nuclear")
    ],
    "frobenius_norm": [
        Case(x, lambda x: np.sqrt(np.einsum("bij,bij->b", x, x))) for x in (TALL, WIDE)
    ],
    "identity": [
        Case(maps((4, 4)), lambda x, size: x + np.eye(size), {"size": 4}, wrap=added)
    ],
    "zeros": [Case(maps((3, 4)), lambda x, shape: x, {"shape": (3, 4)}, wrap=added)],
    "gradient": [
        Case(maps(MAP), lambda x: (differences(x, 2), differences(x, 3))),
        Case(maps((2, 3, 1, 2)), lambda x: (differences(x, 2), differences(x, 3))),
        Case(maps(SEQUENCE), lambda x: (differences(x, 1),)),
        Case(maps((3, 4)), lambda x: (differences(x, 1),)),
    ],
    "partial_derivative": [
        Case(maps(MAP), lambda x, axis: differences(x, 1), {"axis": "co"}),
        Case(maps(FIVE), lambda x, axis: differences(x, 4), {"axis": "wo"}),
        Case(maps((2, 1, 4)), lambda x, axis: differences(x, 1), {"axis": "t"}),
    ],
    "chain_rule": [
        Case(maps(MAP, MAP), lambda a, b: a * b),
        Case([*maps(MAP), 0.5], lambda a: a / 2),
    ],
    "cross_correlation": [
        correlation((3, 4, 3, 3), padding=(1, 1, 1, 1)),
        correlation((6, 2, 2, 3), groups=2, stride=(2, 1), padding=(0, 1, 2, 1)),
        correlation((8, 1, 3, 1), groups=4, dilation=(2, 3)),
    ],
    "max_pool": [
        pool(None, 1, (0, 0, 0, 0)),
        pool(None, 2, (1, 0, 0, 1)),
        pool(None, 1, (-1, 2, 0, 0)),
    ],
    "avg_pool": [
        pool(True, 2, (1, 1, 1, 0)),
        pool(False, 2, (1, 1, 1, 0)),
        pool(False, 1, (0, 0, 0, 0)),
        pool(False, 1, (-1, 1, 0, 0)),
    ],
    "density": densities(),
    "posterior": [
        Case(
            [*maps(MAP), weight(4)],
            lambda x, p, axis: (
                x * channels(p) / np.einsum("ncij,c->nij", x, p)[:, None]
            ),
            {"axis": "co"},
            draw="positive",
        ),
        Case(
            maps(SEQUENCE, SEQUENCE),
            lambda x, p, axis: x * p / np.einsum("ntc,ntc->nc", x, p)[:, None],
            {"axis": "t"},
            draw="positive",
        ),
    ],
    "sum": aggregation(np.sum, lambda *v: sum(v)),
    "mean": aggregation(np.mean, _mean),
    "max": aggregation(np.max, lambda *v: np.maximum.reduce(np.broadcast_arrays(*v))),
    "min": aggregation(np.min, lambda *v: np.minimum.reduce(np.broadcast_arrays(*v))),
    "weighted_mean": [
        Case(
            [*maps(FIVE), weight(4)],
            lambda x, w, axis: np.einsum("nocij,c->noij", x, w) / w.sum(),
            {"axis": "ci"},
            draw="positive",
        ),
        Case(
            [*maps(MAP), weight(4)],
            lambda x, w, **_: np.einsum("ncij,c->nij", x, w)[:, None] / w.sum(),
            {"axis": "co", "keep": True},
            draw="positive",
        ),
    ],
    "concat": [
        Case(
            maps(MAP, (2, 3, 5, 6)),
            lambda a, b, axis: np.concatenate([a, b], 1),
            {"axis": "co"},
        ),
        Case(
            maps(SEQUENCE, (2, 1, 4), SEQUENCE),
            lambda *v, axis: np.concatenate(v, 1),
            {"axis": "t"},
        ),
    ],
    "reshape": [
        Case(maps(MAP), lambda x, shape: x.reshape(shape), {"shape": (2, 120)}),
        Case(maps(MAP), lambda x, shape: x.reshape(shape), {"shape": (2, 5, 4, 3, 2)}),
    ],
    "transpose": [
        Case(maps(SEQUENCE), lambda x, axes: x.transpose(axes), {"axes": (0, 2, 1)}),
        Case(maps(MAP), lambda x, axes: x.transpose(axes), {"axes": (0, 3, 1, 2)}),
    ],
    "flip": [
        Case(maps(MAP), lambda x, axis: x[:, :, ::-1], {"axis": "ho"}),
        Case(maps(SEQUENCE), lambda x, axis: x[..., ::-1], {"axis": "co"}),
    ],
    "slice": [
        Case(maps(MAP), sliced, {"axis": 1, "start": 1, "size": 2, "step": 2}),
        Case(maps(SEQUENCE), sliced, {"axis": 2, "start": 2, "size": 2, "step": 1}),
    ],
    "pad": pads(),
    "resize": [
        Case(maps(MAP), nearest, {"size": (7, 4)}),
        *(
            Case(
                maps(MAP), bilinear, {"size": size, "mode": "bilinear", "align": align}
            )
            for size in ((7, 4), (1, 12))
            for align in (False, True)
        ),
    ],
    "gather": [
        Case([weight(5, 3), Type("map", (2, 4), "int64")], lambda t, i: t[i]),
        Case([weight(5, 3), Type("map", (2,), "int64")], lambda t, i: t[i]),
        Case([weight(5, 3), Type("map", (2, 4, 2), "int64")], lambda t, i: t[i]),
    ],
    "cast": [
        Case(
            maps(SEQUENCE),
            lambda x, dtype: np.trunc(x * 1.0).astype(dtype),
            {"dtype": "int64"},
            differentiable=False,
        ),
        Case(
            [Type("map", SEQUENCE, "int64")],
            lambda x, dtype: x.astype(dtype),
            {"dtype": "float32"},
            differentiable=False,
        ),
        Case(maps(SEQUENCE), lambda x, dtype: x, {"dtype": "float64"}),
    ],
    "bundle": [Case(maps(MAP, SEQUENCE), lambda a, b: (a, b))],
    "result": [
        Case(maps(MAP, MAP), lambda a, b, index: b - a, {"index": 1}, wrap=unpacked)
    ],
    "scan": [
        Case(
            [*maps((2, 5, 3), (2, 4)), weight(3, 4), weight(4, 4)],
            scan_formula,
            {"reverse": reverse},
            wrap=scanned,
        )
        for reverse in (False, True)
    ],
    "tile": [
        Case(
            maps(MAP),
            lambda x, **_: np.sqrt(x),
            {"co": 2, "wo": 3},
            "positive",
            scheduled,
        )
    ],
    "unroll": [
        Case(maps(MAP), lambda x, **_: np.sqrt(x), {"wo": 2}, "positive", scheduled)
    ],
}
CASES = {
    f"{opcode} {i}": (opcode, case)
    for opcode, cases in _CASES.items()
    for i, case in enumerate(cases)
}
every_case = pytest.mark.parametrize(
    ("opcode", "case"),
    [
        pytest.param(opcode, case, id=name.replace(" ", "-"))
        for name, (opcode, case) in CASES.items()
    ],
)
