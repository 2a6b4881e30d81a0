"""Moves, numbers, bundles, scans and schedules: operands and formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
from instruction_case import (
    MAP,
    SEQUENCE,
    Case,
    added,
    maps,
    scanned,
    scheduled,
    unpacked,
    weight,
)
from instruction_formulas import (
    Array,
    bilinear,
    nearest,
    padded,
    recurrence,
    sliced,
)

from gos_fx.ir.types import Type


def scan_formula(x: Array, h: Array, u: Array, v: Array, *, reverse: bool) -> Any:
    seen = recurrence(x, h, u, v, reverse=reverse)
    order = -1 if reverse else 1
    return seen, h[:, None] + seen[:, ::order].cumsum(1)[:, ::order]


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


STRUCTURE: dict[str, list[Case]] = {
    "scalar": [
        Case(maps(MAP), lambda x, value: x + value, {"value": 3.25}, wrap=added)
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
