"""Linear algebra: operands, attributes and formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from instruction_case import (
    MAP,
    SEQUENCE,
    Case,
    added,
    maps,
    weight,
)
from instruction_formulas import (
    Array,
    determinant,
    each,
    eigenvectors,
    inverted,
    lower,
    singular,
)


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


SQUARE, TALL, WIDE = maps((3, 4, 4)), maps((2, 6, 3)), maps((2, 3, 5))
# A matrix for each channel of an image; it lies otherwise in the memory of a network.
SQUARES = maps((2, 3, 4, 4))

LINEAR_ALGEBRA: dict[str, list[Case]] = {
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
}
