"""What accumulators are before the first multiply-add, beside the first loads."""

from __future__ import annotations

from dataclasses import replace

from gos_fx.kernels.microkernels.assembly import Body
from gos_fx.kernels.microkernels.tile import Tile

STARTS = ("add", "zero", "bias")


def started(body: Body, tile: Tile, start: str) -> Body:
    """With the accumulators set in the prologue, each beside a load of a word."""
    if start == "add":
        return body
    waiting = _instructions(tile, start)
    lines = []
    if start == "bias":
        lines, waiting = waiting[: tile.vectors], waiting[tile.vectors :]
    for line in body.prologue:
        if waiting and line.startswith("ldr\tx"):
            lines.append(waiting.pop(0))
        if line.startswith("subs"):
            lines += waiting
        lines.append(line)
    if not body.prologue:
        lines += waiting
    return replace(body, prologue=tuple(lines))


def _instructions(tile: Tile, start: str) -> list[str]:
    count = tile.pixels * tile.vectors
    if start == "zero":
        return [f"movi\tv{i}.2d, #0" for i in range(count)]
    lines = [f"ldr\tq{v}, [{{b}}, #{16 * v}]" for v in range(tile.vectors)]
    return lines + [
        f"mov\tv{i}.16b, v{i % tile.vectors}.16b" for i in range(tile.vectors, count)
    ]
