"""The tile and unroll factors of a kernel whose graph does not say them."""

from __future__ import annotations

from collections.abc import Mapping

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.dense_tiles import default_block, dense_sizes
from gos_fx.kernels.tiles import (
    Core,
    clamp,
    divisor,
    extents,
    is_dense,
    is_windowed,
    lanes,
    tiled_loops,
    vector_loop,
)
from gos_fx.kernels.window_tiles import default_window_tile

# Steps of the reduction in one turn of a dense kernel's innermost loop.
_STEPS = 2
# Vectors side by side where nothing is summed.
_ELEMENT_VECTORS = 4


def default_tile(
    kernel: Kernel, types: Mapping[str, Type], machine: Core
) -> dict[str, int]:
    """Sizes of the inner tile, one for each output loop.

    Sizes in ``kernel.tile`` are kept and the others chosen to go with them.
    """
    sizes = extents(kernel, types)
    fixed = clamp(dict(kernel.tile), sizes)
    names = tiled_loops(kernel, types)
    tile = dict.fromkeys(names, 1)
    if not names:  # a number alone, or several results
        return tile
    if is_dense(kernel, types):
        inner = {loop: fixed[loop] for loop in ("ho", "wo", "co") if loop in fixed}
        return tile | default_block(dense_sizes(kernel, types), inner, machine)
    if kernel.anchor.opcode == "matmul":
        row = names[-2]
        inner = {"wo": fixed[row]} if row in fixed else {}
        inner |= {"co": fixed[names[-1]]} if names[-1] in fixed else {}
        block = default_block(dense_sizes(kernel, types), inner, machine)
        return tile | {row: block["wo"], names[-1]: block["co"]}
    if is_windowed(kernel, types):
        return default_window_tile(kernel, types, machine)
    vector = vector_loop(kernel, types)
    tile[vector] = min(sizes[vector], _ELEMENT_VECTORS * lanes(machine))
    return tile | {loop: size for loop, size in fixed.items() if loop in tile}


def default_unroll(
    kernel: Kernel, types: Mapping[str, Type], tile: Mapping[str, int], machine: Core
) -> dict[str, int]:
    """Unroll factors: ``kernel.unroll`` over the defaults, brought down to divisors."""
    sizes = extents(kernel, types)
    is_summed = is_dense(kernel, types) or kernel.anchor.opcode == "matmul"
    factors = ({"ci": _STEPS} if is_summed else {}) | dict(kernel.unroll)
    around = {loop: -(-sizes[loop] // tile.get(loop, 1)) for loop in sizes}
    return {
        loop: divisor(around[loop], factor)
        for loop, factor in factors.items()
        if loop in sizes
    }
