"""The loop for cores that issue out of order: they put instructions in order."""

from __future__ import annotations

from gos_fx.kernels.microkernels.assembly import STEP, Bases, Body
from gos_fx.kernels.microkernels.tile import Tile

# Weights loaded before the multiply-adds that use them; more find no more to overlap.
_AHEAD = 4


def plain_body(tile: Tile, bases: Bases) -> Body:
    """Loads of whole vectors, each weight a few passes before its use."""
    weights = min(tile.spare, tile.passes, _AHEAD)
    pixel = tile.vectors * tile.pixels
    first = pixel + tile.pixels
    lines = []
    for i, (base, offset) in enumerate(bases.places):
        lines.append(f"ldr\tq{pixel + i}, [{{x{base}}}, #{offset}]")

    def load(index: int) -> list[str]:
        if index >= tile.passes:
            return []
        return [f"ldr\tq{first + index % weights}, [{{w}}, #{16 * index}]"]

    for index in range(weights):
        lines += load(index)
    for index in range(tile.passes):
        k, vector = divmod(index, tile.vectors)
        lines += [
            f"fmla\tv{i * tile.vectors + vector}.4s, v{first + index % weights}.4s, "
            f"v{pixel + i}.s[{k}]"
            for i in range(tile.pixels)
        ]
        lines += load(index + weights)
    lines += [f"add\t{{x{i}}}, {{x{i}}}, #{STEP}" for i in range(len(bases.starts))]
    lines += [f"add\t{{w}}, {{w}}, #{tile.bytes}", "subs\t{n}, {n}, #1", "b.ne\t1b"]
    return Body((), tuple(lines), (), bases.starts, 0)
