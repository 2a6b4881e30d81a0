"""Dense kernels as plain arithmetic: register block, order of loops, threads.

A dense kernel multiplies a matrix of pixels (or rows) by packed weights. Its register
block is ``pixels x co``: one step of the reduction loads ``co / lanes`` vectors of
weights and one number of each pixel, and issues ``pixels * co / lanes`` FMAs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
# TVM has a buffer on the stack, where LLVM makes registers of it, below 1024 bytes.
MAX_STACK = 1023
# Threads that work for this share of the time are busy enough.
_BUSY = 0.9


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


def dense_plan(sizes: DenseSizes, block: Mapping[str, int], machine: Core) -> DensePlan:
    """The loops of a dense kernel for a register block ``ho``, ``wo``, ``co``.

    The pixels of a chunk stay in L2 while its weights pass, and weights that fit half of
    L2 stay there too. Threads divide the chunks, so that they share the weights, or else
    the channels.
    """
    co = block["co"]
    if sizes.groups > 1:
        co = gcd(sizes.outputs // sizes.groups, co)
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
    cores = int(getattr(machine, "cores", 1))
    blocks, channels = plan.outer_blocks, ceil(sizes.outputs / co)
    is_small = sizes.weight_bytes <= machine.l2_bytes // 2
    room = machine.l2_bytes // (4 if is_small else 2)
    most = room * blocks // max(1, sizes.input_bytes)
    chunks = [
        size for size in range(max(1, min(most, blocks)), 0, -1) if blocks % size == 0
    ]
    whole = replace(plan, chunk=chunks[0], by_channels=True)
    by_channels = _busy(sizes.batch * blocks // chunks[0] * channels, cores)
    if not is_small and cores > 1:
        return whole
    shares = [_busy(sizes.batch * blocks // size, cores) for size in chunks]
    chunk, share = max(zip(chunks, shares), key=lambda pair: min(pair[1], _BUSY))
    if share < _BUSY and by_channels > share:
        return whole
    return replace(plan, chunk=chunk)


def _busy(parts: int, cores: int) -> float:
    """Share of the time that the threads work on so many equal parts."""
    return parts / cores / ceil(parts / cores)


def default_block(
    sizes: DenseSizes, fixed: Mapping[str, int], machine: Core
) -> dict[str, int]:
    """The register block ``ho``, ``wo``, ``co`` of fewest cycles among those that fit.

    Sizes in ``fixed`` are kept and the others chosen to go with them.
    """
    candidates = [{**block, **fixed} for block in _blocks(sizes, machine)]
    return min(candidates, key=lambda block: block_cycles(sizes, block, machine))


def _blocks(sizes: DenseSizes, machine: Core) -> Iterator[dict[str, int]]:
    width = lanes(machine)
    outputs = sizes.outputs // sizes.groups
    for vectors in _WIDTHS:
        if vectors > 1 and (vectors - 1) * width >= outputs:
            continue
        co = vectors * width
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
        and plan.ho * plan.wo <= largest_block(vectors, machine)
    )


def is_in_order(machine: Core) -> bool:
    return bool(getattr(machine, "in_order", False))


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
        latency = getattr(machine, "fma_latency_cycles", 4.0)
        issue, load = fmas / machine.fma_per_cycle, loads / rate
        step = max(issue, load, latency) + 0.25 * min(issue, load)
    if count > largest_block(vectors, machine):
        step *= 3  # sums that do not fit the registers
    around = _START[in_order] + _STORE[in_order] * fmas
    return sizes.batch * channel_blocks * pixel_blocks * (sizes.steps * step + around)
