"""Convolution, pooling and derivatives."""

from __future__ import annotations

from typing import Any

from benchmarks.random_graphs.declared import (
    FLOAT,
    TRAINED,
    recipe,
    sizes,
)
from benchmarks.random_graphs.draw import Draw
from gos_fx.ir.opcode import Operand


@recipe("cross_correlation")
def cross_correlation(draw: Draw, opcode: str) -> str:
    x, rng = draw.image(), draw.rng
    channels = sizes(draw, x)[1]
    groups = rng.choice([g for g in range(1, channels + 1) if channels % g == 0])
    taps = rng.randint(1, 3), rng.randint(1, 3)
    runs = [n for n in range(2, groups + 1) if groups % n == 0]
    more: dict[str, Any] = {"dilation": tuple(_gaps(rng, k) for k in taps)}
    if runs and rng.random() < 0.5:
        more["dilation"] = (1, 1)
        more["group_dilation"] = tuple(
            tuple(_gaps(rng, k) for k in taps) for _ in range(rng.choice(runs))
        )
    w = draw.input(
        rng.choice(("weight", "weight", "constant")),
        (groups * rng.randint(1, 3), channels // groups, *taps),
    )
    maps = draw.emit(
        opcode,
        x,
        w,
        stride=(rng.randint(1, 2), rng.randint(1, 2)),
        groups=groups,
        padding=tuple(rng.randint(0, 2) for _ in range(4)),
        **more,
    )
    if rng.random() < 0.2:
        return maps
    if rng.random() < 0.2:
        share = draw.input("weight", (channels // groups,), positive=True)
        return draw.emit("weighted_mean", maps, share, axis="ci")
    found = draw.emit(rng.choice(("sum", "sum", "mean", "max")), maps, axis="ci")
    if rng.random() < 0.5:
        return draw.emit("add", found, draw.input("weight", (sizes(draw, found)[1],)))
    return found


def _gaps(rng: Any, taps: int) -> Any:
    if taps > 1 and rng.random() < 0.3:
        return tuple(rng.randint(1, 3) for _ in range(taps - 1))
    return rng.randint(1, 2)


@recipe("max_pool", "avg_pool")
def pool(draw: Draw, opcode: str) -> str:
    x, rng = draw.image(), draw.rng
    kernel = rng.randint(1, 3), rng.randint(1, 3)
    padding = tuple(rng.randint(0, kernel[i // 2] - 1) for i in range(4))
    more = {"include_pad": rng.random() < 0.5} if opcode == "avg_pool" else {}
    stride = rng.randint(1, 2), rng.randint(1, 2)
    return draw.emit(opcode, x, kernel=kernel, stride=stride, padding=padding, **more)


@recipe("gradient")
def gradient(draw: Draw, opcode: str) -> str:
    x = draw.accepted(Operand(TRAINED, (2, 3, 4), FLOAT))
    both = draw.emit(opcode, x)
    parts = len(draw.types[both].parts)
    taken = [draw.emit("result", both, index=i) for i in range(parts)]
    return taken[-1]
