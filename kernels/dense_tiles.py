"""Dense kernels as plain arithmetic: register block, order of loops, threads.

A dense kernel multiplies a matrix of pixels (or rows) by packed weights. Its register
block is ``pixels x co``: one step of the reduction loads ``co / lanes`` vectors of
weights and one number of each pixel, and issues ``pixels * co / lanes`` FMAs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, gcd, prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels import microkernels
from gos_fx.kernels.tiles import Core, concrete, lanes

# Vectors of output channels in a register block.
_WIDTHS = (1, 2, 3, 4, 6)
# Cycles around a block: to start its loops, and to write each vector of its results.
_START = {True: 30.0, False: 12.0}
_STORE = {True: 5.0, False: 1.5}
# Share of L2 that holds what is used again.
_ROOM = 0.6
# So many register blocks, those of fewest cycles, are compared by their traffic too.
_COMPARED = 6
# TVM has a buffer on the stack, where LLVM makes registers of it, below 1024 bytes.
MAX_STACK = 1023


@dataclass(frozen=True)
class DenseSizes:
    """A dense kernel as a convolution: a matrix product is one of images of one row.

    Attributes:
        batch, rows, columns, outputs: extents of the output.
        inputs: input channels that each output sums over.
        taps: rows and columns of the kernel.
        stride: in rows and columns.
        groups: of channels.
        input_bytes: of one image.
        is_flat: every output pixel reads the one input pixel at its place, so that rows
            and columns may be one loop.
    """

    batch: int
    rows: int
    columns: int
    outputs: int
    inputs: int
    taps: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1
    input_bytes: int = 0
    is_flat: bool = True

    @property
    def steps(self) -> int:
        """Multiply-adds for each output."""
        return self.inputs * self.taps[0] * self.taps[1]

    @property
    def weight_bytes(self) -> int:
        return 4 * self.outputs * self.steps

    @property
    def work(self) -> int:
        """Multiply-adds of the kernel."""
        return self.batch * self.rows * self.columns * self.outputs * self.steps


def dense_sizes(kernel: Kernel, types: Mapping[str, Type]) -> DenseSizes:
    """The sizes of a dense convolution or of a matrix product."""
    anchor = kernel.anchor
    source = concrete(types[anchor.operands[0]])
    if anchor.opcode == "matmul":
        *batch, rows, outputs = concrete(anchor.type)
        return DenseSizes(
            prod(batch), 1, rows, outputs, source[-1], input_bytes=4 * rows * source[-1]
        )
    outputs, inputs, *taps = concrete(types[anchor.operands[1]])
    batch, _, rows, columns = concrete(kernel.nodes[1].type)
    stride, padding = tuple(anchor.attr("stride")), tuple(anchor.attr("padding"))
    flat = (*taps, *stride) == (1, 1, 1, 1) and padding == (0, 0, 0, 0)
    return DenseSizes(
        batch,
        rows,
        columns,
        outputs,
        inputs,
        (taps[0], taps[1]),
        (stride[0], stride[1]),
        int(anchor.attr("groups")),
        4 * prod(source[1:]),
        flat,
    )


@dataclass(frozen=True)
class DensePlan:
    """How the loops of a dense kernel are cut.

    Attributes:
        ho, wo, co: the register block.
        rows, columns, outputs: extents of the loops that are cut.
        chunk: blocks of the outer pixel loop (rows, or columns of an image of one row)
            that are done before the next block of channels.
        by_channels: threads divide the channels too, else the chunks alone.
        by_taps: the rows of the kernel are the outermost loop of the reduction: sums of
            a chunk wait in memory, while less weights are passed for each block.
    """

    ho: int
    wo: int
    co: int
    rows: int
    columns: int
    outputs: int
    chunk: int
    by_channels: bool
    by_taps: bool = False

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


def dense_plan(sizes: DenseSizes, block: Mapping[str, int], machine: Core) -> DensePlan:
    """The loops of a dense kernel for a register block ``ho``, ``wo``, ``co``.

    Chunks and threads are those of the least time: cycles of the busiest thread, and
    what comes from memory because it did not stay in L2.
    """
    co = block["co"]
    if sizes.groups > 1:
        co = gcd(sizes.outputs // sizes.groups, co)
    elif co == sizes.outputs:  # whole vectors: weights of zero behind the last channel
        co = ceil(co / lanes(machine)) * lanes(machine)
    plan = DensePlan(
        block["ho"],
        block["wo"],
        co,
        sizes.rows,
        sizes.columns,
        sizes.outputs,
        chunk=1,
        by_channels=False,
    )
    blocks = plan.outer_blocks
    splits = (False, True) if machine.in_order and sizes.taps[0] > 1 else (False,)
    plans = [
        replace(plan, chunk=size, by_channels=by_channels, by_taps=by_taps)
        for size in range(blocks, 0, -1)
        if blocks % size == 0
        for by_channels in ((False, True) if machine.cores > 1 else (False,))
        for by_taps in splits
    ]
    cycles = block_cycles(sizes, block, machine) / machine.clock_hz
    return min(plans, key=lambda plan: _seconds(sizes, plan, cycles, machine))


def _seconds(sizes: DenseSizes, plan: DensePlan, alone: float, machine: Core) -> float:
    """Time of a division of the work, of which one core alone needs ``alone``."""
    chunks = sizes.batch * plan.outer_blocks // plan.chunk
    channels = ceil(sizes.outputs / plan.co)
    parts = chunks * (channels if plan.by_channels else 1)
    busy = alone / machine.cores / _busy(parts, machine.cores)
    busy *= 1.02 if plan.by_taps else 1.0  # sums are loaded and stored once more
    return busy + traffic(sizes, plan, machine) / _rate(machine)


def _rate(machine: Core) -> float:
    """Bytes in a second that come from behind L2."""
    if machine.l3_bytes is None:
        return machine.dram_bytes_per_s(machine.cores)
    return machine.cores * machine.clock_hz * machine.l2_bytes_per_cycle / 2


def traffic(sizes: DenseSizes, plan: DensePlan, machine: Core) -> float:
    """Bytes that come from behind L2 or go there.

    The pixels of a chunk are read for each block of channels, and the weights for each
    chunk, unless they stay.
    """
    chunks = plan.outer_blocks // plan.chunk
    channels = ceil(sizes.outputs / plan.co)
    outputs = 4 * sizes.rows * sizes.columns * sizes.outputs
    room = _ROOM * machine.l2_bytes
    sharing = min(machine.cores, sizes.batch * chunks) if machine.l2_shared else 1
    # The image with its border, or with what the last block reads behind it.
    copies = 1 if is_read_in_place(sizes, plan.ho * plan.wo) else 2
    held = sharing * (copies * sizes.input_bytes + outputs) / chunks
    # A block's weights are read for each of the chunk's pixel blocks.
    block = 4 * plan.co * sizes.steps / (sizes.taps[0] if plan.by_taps else 1)
    block *= machine.cores if plan.by_channels and machine.l2_shared else 1
    again, pieces, passes = 1.0, 1.0, 1.0
    if held + block > room:
        again = float(channels)
        # A line of the output is written in pieces of the block's channels.
        pieces = max(1.0, machine.line_bytes / 4 / plan.co)
    if held + sizes.weight_bytes > room and sizes.weight_bytes > room / 2:
        passes = float(sizes.batch * chunks)
        if block > room / 2 and held + block > room:
            passes *= plan.chunk * (1 if plan.rows == 1 else plan.column_blocks)
    images = again * sizes.input_bytes + 2 * pieces * outputs
    return sizes.batch * images + passes * sizes.weight_bytes


def _busy(parts: int, cores: int) -> float:
    """Share of the time that the threads work on so many equal parts."""
    return parts / cores / ceil(parts / cores)


def default_block(
    sizes: DenseSizes, fixed: Mapping[str, int], machine: Core
) -> dict[str, int]:
    """The register block ``ho``, ``wo``, ``co`` of least time among those that fit.

    Sizes in ``fixed`` are kept and the others chosen to go with them.
    """
    return dict(_default_block(sizes, tuple(sorted(fixed.items())), machine))


@lru_cache(maxsize=4096)
def _default_block(
    sizes: DenseSizes, fixed: tuple[tuple[str, int], ...], machine: Core
) -> tuple[tuple[str, int], ...]:
    candidates = [{**block, **dict(fixed)} for block in _blocks(sizes, machine)]
    candidates.sort(key=lambda block: block_cycles(sizes, block, machine))

    def seconds(block: Mapping[str, int]) -> float:
        cycles = block_cycles(sizes, block, machine) / machine.clock_hz
        return _seconds(sizes, dense_plan(sizes, block, machine), cycles, machine)

    return tuple(min(candidates[:_COMPARED], key=seconds).items())


def _blocks(sizes: DenseSizes, machine: Core) -> Iterator[dict[str, int]]:
    width = lanes(machine)
    outputs = sizes.outputs // sizes.groups
    for vectors in _WIDTHS:
        co = vectors * width
        if vectors > 1 and (co if is_in_order(machine) else co - width + 1) > outputs:
            continue
        most = largest_block(vectors, machine)
        if sizes.is_flat:
            for count in range(1, min(most, sizes.rows * sizes.columns) + 1):
                ho = max(1, min(count // sizes.columns, sizes.rows))
                if count % ho == 0 and count // ho <= sizes.columns:
                    yield {"ho": ho, "wo": count // ho, "co": co}
            continue
        for wo in range(1, min(most, sizes.columns) + 1):
            yield {"ho": 1, "wo": wo, "co": co}
            if wo == sizes.columns:
                for ho in range(2, min(most // wo, sizes.rows) + 1):
                    yield {"ho": ho, "wo": wo, "co": co}


def largest_block(vectors: int, machine: Core) -> int:
    """Pixels of a register block with so many vectors of channels.

    An in-order core takes a microkernel; any other keeps the sums, the weights of one
    step and one number in registers.
    """
    if is_in_order(machine):
        return microkernels.largest(vectors)
    sums = min(
        machine.vector_registers - vectors - 1, MAX_STACK // (machine.simd_bits // 8)
    )
    return max(1, sums // vectors)


def has_microkernel(plan: DensePlan, machine: Core) -> bool:
    """Whether the sums of this block are done by :mod:`gos_fx.kernels.microkernels`."""
    vectors, tail = divmod(plan.co, lanes(machine))
    return (
        is_in_order(machine)
        and tail == 0
        and plan.co <= plan.outputs  # else TVM has no room for all of a block's sums
        and plan.ho * plan.wo <= largest_block(vectors, machine)
    )


def is_in_order(machine: Core) -> bool:
    return machine.in_order


def block_cycles(sizes: DenseSizes, block: Mapping[str, int], machine: Core) -> float:
    """Cycles of the whole kernel on one core, caches left out."""
    in_order = is_in_order(machine)
    count = block["ho"] * block["wo"]
    if sizes.is_flat:
        pixel_blocks = ceil(sizes.rows * sizes.columns / count)
    else:
        pixel_blocks = ceil(sizes.rows / block["ho"]) * ceil(
            sizes.columns / block["wo"]
        )
    channel_blocks = sizes.groups * ceil(sizes.outputs // sizes.groups / block["co"])
    vectors = ceil(block["co"] / lanes(machine))
    fmas = vectors * count
    loads = vectors + (count / 4 if in_order else count)
    if in_order:
        # 128 bits take one cycle in which no FMA is issued.
        step = fmas / machine.fma_per_cycle + loads
    else:
        rate = machine.load_bytes_per_cycle * 8 / machine.simd_bits
        latency = machine.fma_latency_cycles
        issue, load = fmas / machine.fma_per_cycle, loads / rate
        step = max(issue, load, latency) + 0.25 * min(issue, load)
    if count > largest_block(vectors, machine):
        step *= 3  # sums that do not fit the registers
    around = _START[in_order] + _STORE[in_order] * fmas
    blocks = sizes.batch * channel_blocks * pixel_blocks
    copied = 0.0 if is_read_in_place(sizes, count) else sizes.batch * sizes.input_bytes
    copied *= 2 / machine.load_bytes_per_cycle
    return blocks * (sizes.steps * step + around) + copied


def is_read_in_place(sizes: DenseSizes, pixels: int) -> bool:
    """Whether whole blocks of pixels read nothing outside of the image."""
    return sizes.is_flat and sizes.rows * sizes.columns % pixels == 0
