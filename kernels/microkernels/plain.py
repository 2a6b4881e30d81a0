"""The loop for cores that issue out of order: they put instructions in order."""

from __future__ import annotations

from gos_fx.kernels.microkernels.assembly import STEP, STEPS, Bases, Body
from gos_fx.kernels.microkernels.tile import Tile

# Weights loaded before the multiply-adds that use them; more find no more to overlap.
_AHEAD = 4


def plain_body(tile: Tile, bases: Bases, tail: int) -> Body:
    """Loads of whole vectors, each weight a few passes before its use.

    Args:
        tile: accumulators.
        bases: of its pixels.
        tail: steps of the reduction behind the last block, less than a block.
    """
    moved = [f"add\t{{x{i}}}, {{x{i}}}, #{STEP}" for i in range(len(bases.starts))]
    moved += [f"add\t{{w}}, {{w}}, #{tile.bytes}", "subs\t{n}, {n}, #1", "b.ne\t1b"]
    loop = (*_pixels(tile, bases, STEPS), *_passes(tile, STEPS), *moved)
    epilogue = (*_pixels(tile, bases, tail), *_passes(tile, tail))
    return Body((), loop, epilogue, bases.starts, 0)


def _pixels(tile: Tile, bases: Bases, steps: int) -> list[str]:
    """Loads of so many steps of each pixel."""
    lines = []
    kind = ("", "s", "d", "d", "q")[steps]
    first = tile.vectors * tile.pixels
    free = first + tile.pixels
    for register, (base, offset) in enumerate(bases.places, first):
        if kind:
            lines.append(f"ldr\t{kind}{register}, [{{x{base}}}, #{offset}]")
        if steps == 3:
            lines.append(f"ldr\ts{free}, [{{x{base}}}, #{offset + 8}]")
            lines.append(f"mov\tv{register}.s[2], v{free}.s[0]")
    return lines


def _passes(tile: Tile, steps: int) -> list[str]:
    weights = min(tile.spare, tile.passes, _AHEAD)
    pixel, passes = tile.vectors * tile.pixels, steps * tile.vectors
    first = pixel + tile.pixels
    lines = []
    for index in range(-weights, passes):
        if index >= 0:
            k, vector = divmod(index, tile.vectors)
            lines += [
                f"fmla\tv{i * tile.vectors + vector}.4s, "
                f"v{first + index % weights}.4s, v{pixel + i}.s[{k}]"
                for i in range(tile.pixels)
            ]
        if index + weights < passes:
            register = first + (index + weights) % weights
            lines.append(f"ldr\tq{register}, [{{w}}, #{16 * (index + weights)}]")
    return lines
