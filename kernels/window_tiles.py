"""Windows on each channel alone as plain arithmetic: tiles, and where they are cut.

A tile is ``ho x wo`` pixels of a vector of channels. Each input that its windows read
is loaded once and multiplied into all of them, so a tile costs

    loads of (rows of input) * (columns of input) + FMAs

for each vector of channels. Tiles at the border have code of their own that leaves out
what lies outside of the image; there is no padded copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil, inf

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels import tiles
from gos_fx.kernels.tiles import concrete, lanes
from gos_fx.kernels.window_axis import Axis, axis
from gos_fx.targets.target import Machine

__all__ = ["Axis", "WindowPlan", "default_window_tile", "window_plan"]

# Multiply-adds of an unrolled tile; more would cost instruction cache.
MAX_STATEMENTS = 400
# Taps of a window that are unrolled, and of one row of it.
_MOST_TAPS, _MOST_COLUMNS = 25, 16
# Copies of a tile's code: each tile at the border has its own.
_MOST_COPIES = 16
# Cycles around a tile: addresses, the loop, and what nothing overlaps.
_START = 10.0
_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
# Parts for each thread.
_PARTS = 4
# Registers beside accumulators and weights: inputs that are on their way.
_INPUTS, _FEW_INPUTS = 10, 6
# TVM has a buffer on the stack, where LLVM makes registers of it, below 1024 bytes.
_MAX_STACK = 1023
# Channels that a microkernel takes at once.
MICROKERNEL_LANES = 4
# Vectors of a tile of one pixel, which has no other accumulators.
_LONELY_VECTORS = 4


@dataclass(frozen=True)
class WindowPlan:
    """How the loops of a windowed kernel are cut.

    Attributes:
        batch, channels: extents of the outputs.
        width: channels of a vector, a power of two; the last vector overlaps the one
            before where it does not divide the channels.
        per, per_group: outputs that read the same channels, and how many these are.
        loops: of "kh" and "kw", those that are too long to unroll; the tile has one
            output along them.
        resident: weights of a vector stay in registers while a row of tiles is done.
        chunks: parts into which the vectors are divided, for threads.
        in_order: tiles are microkernels where they fit.
    """

    batch: int
    channels: int
    width: int
    per: int
    per_group: int
    rows: Axis
    columns: Axis
    loops: tuple[str, ...]
    resident: bool
    chunks: int
    in_order: bool

    @property
    def vectors(self) -> int:
        return ceil(self.channels / self.width)


def window_plan(
    kernel: Kernel,
    types: Mapping[str, Type],
    tile: Mapping[str, int],
    machine: Machine,
    *,
    scattered: bool = False,
) -> WindowPlan:
    """The plan for a tile; sizes that would make too much code are made smaller.

    Args:
        scattered: channels do not lie side by side, so that vectors are read or written
            element by element.
    """
    sizes = tiles.extents(kernel, types)
    groups = int(kernel.anchor.attrs.get("groups", 1))
    is_pool = kernel.anchor.opcode in tiles.POOLS
    block = _bounded(sizes, tile, machine)
    per = 1 if is_pool else sizes["co"] // groups
    per_group = 1 if is_pool else sizes["ci"]
    loops = _loops(kernel, types, block)
    if scattered or (per, per_group) != (1, 1):
        loops = ("kh", "kw")
    rows, columns = _axes(kernel, types, _one_along(loops, block))
    width = _power(min(block["co"], sizes["co"]))
    vectors = ceil(sizes["co"] / width)
    outputs = rows.block * columns.block
    return WindowPlan(
        batch=sizes["n"],
        channels=sizes["co"],
        width=width,
        per=per,
        per_group=per_group,
        rows=rows,
        columns=columns,
        loops=loops,
        resident=not is_pool and _resident(outputs, width, sizes, loops, machine),
        chunks=_chunks(sizes["n"] * rows.blocks, vectors, machine.cores),
        in_order=_is_in_order(types[kernel.anchor.operands[0]], width, machine),
    )


def default_window_tile(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine
) -> dict[str, int]:
    """Sizes of the tile; those in ``kernel.tile`` are kept.

    The cheapest by loads, FMAs and what each tile and each row of tiles costs beside.
    """
    sizes = tiles.extents(kernel, types)
    fixed = tiles.clamp(dict(kernel.tile), sizes)
    co = fixed.get("co", _power(min(lanes(machine), sizes["co"])))
    best: tuple[float, dict[str, int]] | None = None
    for ho, wo in product(
        _choices(sizes["ho"], fixed.get("ho")), _choices(sizes["wo"], fixed.get("wo"))
    ):
        block = {"ho": ho, "wo": wo, "co": co}
        cost = _cycles(kernel, types, block, machine)
        if best is None or cost < best[0]:
            best = cost, block
    assert best is not None
    tile = {"n": 1, **best[1]}
    if _loops(kernel, types, tile) == ("kh", "kw") and "co" not in fixed:
        tile["co"] = _power(min(_LONELY_VECTORS * lanes(machine), sizes["co"]))
    return tile


def _cycles(
    kernel: Kernel, types: Mapping[str, Type], block: dict[str, int], machine: Machine
) -> float:
    """Loads and overhead of all tiles; FMAs are the same for all. Infinite for tiles
    that fit no registers, or of which the plan would make smaller ones."""
    sizes = tiles.extents(kernel, types)
    is_pool = kernel.anchor.opcode in tiles.POOLS
    loops = _loops(kernel, types, block)
    wide = ceil(block["co"] / lanes(machine))
    outputs = wide * block["ho"] * block["wo"]
    too_large = _bounded(sizes, block, machine) != block
    one = _one_along(loops, block)
    if too_large or one != (block["ho"], block["wo"]):
        return inf
    if one != (1, 1) and not _fits(machine, outputs, wide, kernel, sizes | block):
        return inf
    rows, columns = _axes(kernel, types, one)
    count = rows.blocks * columns.blocks
    taps = sizes["kh"] * sizes["kw"]
    loads = float(rows.loaded * columns.loaded)
    if not is_pool:
        resident = _resident(outputs // wide, block["co"], sizes, loops, machine)
        loads += taps * (rows.blocks if resident else count)
    load = wide * machine.simd_bits / 8 / machine.load_bytes_per_cycle
    of = types[kernel.anchor.operands[0]]
    if not loops and _is_in_order(of, block["co"], machine):
        load = 1.0
    # FMA latency: fewer accumulators than about 8 cannot keep the unit busy.
    idle = max(0.0, 8 - outputs) * taps / 8 / machine.fma_per_cycle
    return loads * load + count * (_START + idle)


def _chunks(rows: int, vectors: int, cores: int) -> int:
    """Parts of the channels that leave the threads busy to the end; few, since a part
    reads all of the input's cache lines."""
    least = min(vectors, ceil(_PARTS * cores / rows))

    def slowest(chunks: int) -> int:
        return ceil(rows * chunks / cores) * ceil(vectors / chunks)

    return min(range(least, min(vectors, 3 * least) + 1), key=slowest)


def _is_in_order(of: Type, width: int, machine: Machine) -> bool:
    """Whether tiles are microkernels, which load a vector in a cycle."""
    return machine.in_order and width == MICROKERNEL_LANES and of.dtype == "float32"


def _resident(
    outputs: int,
    width: int,
    sizes: Mapping[str, int],
    loops: tuple[str, ...],
    machine: Machine,
) -> bool:
    """Whether all weights of a vector fit the registers beside the accumulators."""
    used = ceil(width / lanes(machine)) * (outputs + sizes["kh"] * sizes["kw"])
    return not loops and used + _passing(machine) <= machine.vector_registers


def _passing(machine: Machine) -> int:
    """Registers for inputs: a microkernel knows when it needs which, LLVM does not,
    unless there are so few that it multiplies operands in memory."""
    few = machine.in_order or machine.vector_registers < 32
    return _FEW_INPUTS if few else _INPUTS


def _fits(
    machine: Machine, outputs: int, wide: int, kernel: Kernel, sizes: Mapping[str, int]
) -> bool:
    """Whether accumulators, a few inputs and the weights in use fit the registers."""
    taps = sizes["kh"] * sizes["kw"]
    weights = 0
    if kernel.anchor.opcode not in tiles.POOLS:
        # Of a window that does not fit, the rows that an input row meets are in use.
        stride = kernel.anchor.attr("stride")[0]
        rows = min(sizes["ho"], ceil(sizes["kh"] / stride))
        weights = wide * min(taps, rows * sizes["kw"])
    if machine.vector_registers < 32:
        weights = 0  # they are operands in memory
    return (
        outputs + weights + _passing(machine) <= machine.vector_registers
        and outputs * taps <= MAX_STATEMENTS
        and outputs * machine.simd_bits // 8 <= _MAX_STACK
    )


def _choices(extent: int, fixed: int | None) -> tuple[int, ...]:
    if fixed is not None:
        return (fixed,)
    return tuple(size for size in _SIZES if size <= extent)


def _axes(
    kernel: Kernel, types: Mapping[str, Type], block: tuple[int, int]
) -> tuple[Axis, Axis]:
    sizes = tiles.extents(kernel, types)
    attrs = kernel.anchor.attrs
    inputs = concrete(types[kernel.anchor.operands[0]])[2:]
    stride, dilation = attrs["stride"], attrs.get("dilation", (1, 1))
    rows, columns = (
        axis(
            inputs[d],
            sizes[("ho", "wo")[d]],
            sizes[("kh", "kw")[d]],
            stride[d],
            dilation[d],
            attrs["padding"][2 * d],
            block[d],
        )
        for d in (0, 1)
    )
    return rows, columns


def _loops(
    kernel: Kernel, types: Mapping[str, Type], block: Mapping[str, int]
) -> tuple[str, ...]:
    rows, columns = _axes(kernel, types, (block["ho"], block["wo"]))
    copies = 1 + len(columns.edges)
    is_one = rows.outputs * columns.outputs == 1 and rows.taps > 1
    if columns.taps > _MOST_COLUMNS or copies > _MOST_COPIES or is_one:
        return ("kh", "kw")
    copies *= 1 + len(rows.edges)
    if rows.taps * columns.taps > _MOST_TAPS or copies > _MOST_COPIES:
        return ("kh",)
    return ()


def _one_along(loops: tuple[str, ...], block: Mapping[str, int]) -> tuple[int, int]:
    """Rows and columns of a tile."""
    rows, columns = (
        1 if tap in loops else block[output]
        for tap, output in (("kh", "ho"), ("kw", "wo"))
    )
    return rows, columns


def _bounded(
    sizes: Mapping[str, int], tile: Mapping[str, int], machine: Machine
) -> dict[str, int]:
    """The tile with a bounded number of statements, which must fit the stack too."""
    block = {name: tile.get(name, 1) for name in ("co", "ho", "wo")}
    block["co"] = min(block["co"], 4 * lanes(machine))
    taps = sizes["kh"] * sizes["kw"]
    for name in ("ho", "wo"):
        while block[name] > 1 and (
            block["ho"] * block["wo"] * taps > MAX_STATEMENTS
            or 4 * block["ho"] * block["wo"] * block["co"] > _MAX_STACK
        ):
            block[name] -= 1
    return block


def _power(extent: int) -> int:
    """The largest power of two that is not above ``extent``."""
    return 1 << (extent.bit_length() - 1)
