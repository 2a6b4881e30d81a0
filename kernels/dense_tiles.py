"""Dense kernels as plain arithmetic: register block, order of loops, threads.

A dense kernel multiplies a matrix of pixels (or rows) by packed weights. Its register
block is ``pixels x co``: one step of the reduction loads ``co / lanes`` vectors of
weights and one number of each pixel, and issues ``pixels * co / lanes`` FMAs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, gcd, prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import AXES, Type
from gos_fx.kernels.tiles import Core, concrete, extents, lanes

# Vectors of output channels in a register block.
_WIDTHS = (1, 2, 3, 4, 6)
# Cycles around a block: to start its loops, and to write each vector of its results.
_START = {True: 30.0, False: 12.0}
_STORE = {True: 5.0, False: 1.5}
# TVM has a buffer on the stack, where LLVM makes registers of it, below 1024 bytes.
MAX_STACK = 1023
# Threads that work for this share of the time are busy enough.
_BUSY = 0.9


@dataclass(frozen=True)
class DensePlan:
    """How the loops of a dense kernel are cut.

    Attributes:
        ho, wo, co: the register block.
        rows, columns, outputs: extents of the loops that are cut.
        chunk: blocks of the outer pixel loop (rows, or columns of an image of one row)
            that are done before the next block of channels.
        by_channels: threads divide the channels too, else the chunks alone.
    """

    ho: int
    wo: int
    co: int
    rows: int
    columns: int
    outputs: int
    chunk: int
    by_channels: bool

    @property
    def row_blocks(self) -> int:
        return ceil(self.rows / self.ho)

    @property
    def column_blocks(self) -> int:
        return ceil(self.columns / self.wo)

    @property
    def outer_blocks(self) -> int:
        """Blocks of the loop that ``chunk`` cuts."""
        return self.column_blocks if self.rows == 1 else self.row_blocks


def is_flat(kernel: Kernel, types: Mapping[str, Type]) -> bool:
    """Whether every output pixel reads the one input pixel at its place: rows and
    columns may then be one loop."""
    anchor = kernel.anchor
    taps = concrete(types[anchor.operands[1]])[2:]
    rows = concrete(kernel.nodes[-1].type)[2]
    return (
        taps == (1, 1)
        and rows > 1
        and tuple(anchor.attr("stride")) == (1, 1)
        and tuple(anchor.attr("padding")) == (0, 0, 0, 0)
    )


def dense_plan(
    kernel: Kernel, types: Mapping[str, Type], tile: Mapping[str, int], machine: Core
) -> DensePlan:
    """The loops of a dense convolution for the tile that was chosen."""
    sizes = extents(kernel, types)
    groups = int(kernel.anchor.attr("groups"))
    co = tile["co"]
    if groups > 1:
        co = gcd(sizes["co"] // groups, co)
    plan = DensePlan(
        tile["ho"], tile["wo"], co, sizes["ho"], sizes["wo"], sizes["co"], 1, False
    )
    return _divided(plan, kernel, types, machine)


def _divided(
    plan: DensePlan, kernel: Kernel, types: Mapping[str, Type], machine: Core
) -> DensePlan:
    """The plan with its chunks and threads.

    Weights that fit half of L2 are read from there for each chunk, and a chunk's pixels
    stay in what is left; larger weights are read once, so all pixels are one chunk.
    """
    sizes = extents(kernel, types)
    batch = sizes["n"]
    cores = int(getattr(machine, "cores", 1))
    weights = 4 * prod(sizes[loop] for loop in ("co", "ci", "kh", "kw"))
    inputs = 4 * prod(concrete(types[kernel.anchor.operands[0]])[1:])
    blocks, channels = plan.outer_blocks, ceil(plan.outputs / plan.co)
    if weights > machine.l2_bytes // 2:
        by_channels = _busy(batch * channels, cores) >= _busy(batch, cores)
        chunk = blocks
    else:
        most = machine.l2_bytes // 4 * blocks // max(1, inputs)
        sizes_of_chunk = [
            size for size in range(max(1, min(most, blocks)), 0, -1) if blocks % size == 0
        ]
        shares = [_busy(batch * blocks // size, cores) for size in sizes_of_chunk]
        chunk, share = max(
            zip(sizes_of_chunk, shares), key=lambda pair: min(pair[1], _BUSY)
        )
        whole = batch * blocks // sizes_of_chunk[0] * channels
        by_channels = share < _BUSY and _busy(whole, cores) > share
        if by_channels:
            chunk = sizes_of_chunk[0]
    return DensePlan(
        **{**vars(plan), "chunk": chunk, "by_channels": by_channels and cores > 1}
    )


def _busy(parts: int, cores: int) -> float:
    """Share of the time that the threads work on so many equal parts."""
    return parts / cores / ceil(parts / cores)


def default_block(
    kernel: Kernel, types: Mapping[str, Type], machine: Core
) -> dict[str, int]:
    """Sizes of the register block of fewest cycles that fits the registers.

    Sizes in ``kernel.tile`` are kept and the others chosen to go with them.
    """
    sizes = extents(kernel, types)
    tile = dict.fromkeys(AXES[4], 1)
    fixed = {
        loop: max(1, min(size, sizes[loop]))
        for loop, size in kernel.tile
        if loop in tile and loop != "n"
    }
    candidates = [
        {**block, **fixed} for block in _blocks(kernel, types, sizes, machine)
    ]
    return tile | min(
        candidates, key=lambda block: block_cycles(kernel, types, block, machine)
    )


def _blocks(
    kernel: Kernel,
    types: Mapping[str, Type],
    sizes: Mapping[str, int],
    machine: Core,
) -> Iterator[dict[str, int]]:
    width = lanes(machine)
    outputs = sizes["co"] // int(kernel.anchor.attr("groups"))
    channels = {n * width for n in _WIDTHS if (n - 1) * width < outputs}
    flat = is_flat(kernel, types)
    for co in sorted(channels):
        most = largest_block(ceil(co / width), machine)
        if flat:
            pixels = sizes["ho"] * sizes["wo"]
            columns = sizes["wo"]
            for count in range(1, min(most, pixels) + 1):
                # As many whole rows as there are, so that the sizes are legal.
                ho = max(1, min(count // columns, sizes["ho"]))
                if count % ho == 0 and count // ho <= columns:
                    yield {"ho": ho, "wo": count // ho, "co": co}
            continue
        for wo in range(1, min(most, sizes["wo"]) + 1):
            yield {"ho": 1, "wo": wo, "co": co}
            if wo == sizes["wo"]:
                for ho in range(2, min(most // wo, sizes["ho"]) + 1):
                    yield {"ho": ho, "wo": wo, "co": co}


def largest_block(vectors: int, machine: Core) -> int:
    """Pixels of a register block with so many vectors of channels.

    An in-order core keeps four numbers of each pixel and two vectors of weights in
    registers beside the sums; any other the weights and one number.
    """
    registers = machine.vector_registers
    if is_in_order(machine):
        return max(1, (registers - 2) // (vectors + 1))
    sums = min(registers - vectors - 1, MAX_STACK // (machine.simd_bits // 8))
    return max(1, sums // vectors)


def is_in_order(machine: Core) -> bool:
    return bool(getattr(machine, "in_order", False))


def block_cycles(
    kernel: Kernel, types: Mapping[str, Type], block: Mapping[str, int], machine: Core
) -> float:
    """Cycles of the whole kernel on one core, caches left out."""
    sizes = extents(kernel, types)
    width, in_order = lanes(machine), is_in_order(machine)
    groups = int(kernel.anchor.attr("groups"))
    if is_flat(kernel, types):
        count = block["ho"] * block["wo"]
        pixel_blocks = ceil(sizes["ho"] * sizes["wo"] / count)
    else:
        count = block["ho"] * block["wo"]
        pixel_blocks = ceil(sizes["ho"] / block["ho"])
        pixel_blocks *= ceil(sizes["wo"] / block["wo"])
    channel_blocks = groups * ceil(sizes["co"] // groups / block["co"])
    vectors = ceil(block["co"] / width)
    steps = sizes["ci"] * sizes["kh"] * sizes["kw"]
    fmas = vectors * count
    loads = vectors + (count / 4 if in_order else count)
    if in_order:
        # 128 bits take one cycle in which no FMA is issued.
        step = fmas / machine.fma_per_cycle + loads
    else:
        rate = machine.load_bytes_per_cycle * 8 / machine.simd_bits
        latency = getattr(machine, "fma_latency_cycles", 4.0)
        issue, load = fmas / machine.fma_per_cycle, loads / rate
        step = max(issue, load, latency) + 0.25 * min(issue, load)
    if vectors * count > _registers(vectors, machine):
        step *= 3  # sums that do not fit the registers
    around = _START[in_order] + _STORE[in_order] * fmas
    return sizes["n"] * channel_blocks * pixel_blocks * (steps * step + around)


def _registers(vectors: int, machine: Core) -> int:
    return largest_block(vectors, machine) * vectors
