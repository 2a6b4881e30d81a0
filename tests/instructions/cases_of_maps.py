"""Element-wise instructions, windows, aggregations, derivatives and probability."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from instruction_case import (
    FIVE,
    MAP,
    SEQUENCE,
    Case,
    constant,
    maps,
    weight,
)
from instruction_formulas import (
    Array,
    average,
    channels,
    correlate,
    density,
    differences,
    largest,
    normalised,
)


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


BIAS = [*maps(MAP), weight(4)]
ROW = maps(MAP, (2, 4, 1, 6))

MAPS: dict[str, list[Case]] = {
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
}
