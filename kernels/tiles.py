"""Tile sizes: which loops a kernel has, which sizes are legal, which are the default.

Plain arithmetic on a machine's data, without TVM: the search mutates in this space and
the analytical latency model sees the same sizes as the code generator.

The inner (register) tile of a kernel is a block of outputs that stays in registers
while the reduction loops run around it. One loop of it is vectorised:

- dense convolution: ``co``. One step of the reduction loads ``co / lanes`` vectors of
  packed weights and ``ho * wo`` inputs, and issues ``co / lanes * ho * wo`` FMAs.
- depth-wise convolution and pooling, whose inputs differ for every channel: ``wo``.
- matmul: the columns, that is the last loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import ceil, prod
from typing import Protocol

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import AXES, Type

POOLS = ("max_pool", "avg_pool")
REDUCTIONS = ("sum", "mean", "max", "min", "weighted_mean")
REDUCTION_LOOPS = ("ci", "kh", "kw")
# Fewer output channels per group than this do not fill a vector of four lanes.
DENSE_CHANNELS = 4
# More statements than this in an unrolled body only cost instruction cache.
MAX_BODY = 512
# Rows of the tile tried for the default; more reuse weights no better.
_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)


class Core(Protocol):
    """The fields of ``gos_fx.targets.target.Machine`` that tile sizes depend on."""

    @property
    def simd_bits(self) -> int: ...
    @property
    def vector_registers(self) -> int: ...
    @property
    def fma_per_cycle(self) -> float: ...
    @property
    def load_bytes_per_cycle(self) -> float: ...
    @property
    def l1d_bytes(self) -> int: ...
    @property
    def l2_bytes(self) -> int: ...
    @property
    def l2_bytes_per_cycle(self) -> float: ...


def concrete(type: Type) -> tuple[int, ...]:
    """The shape of a type without symbols."""
    return tuple(int(dim) for dim in type.shape)  # type: ignore[arg-type]


def axes(rank: int) -> tuple[str, ...]:
    """Loop names of an output; those of a rank without names are numbered."""
    return AXES.get(rank, tuple(f"axis{i}" for i in range(rank)))


def is_dense(kernel: Kernel, types: Mapping[str, Type]) -> bool:
    """A summed cross-correlation with enough outputs per group to vectorise them."""
    if not kernel.is_summed:
        return False
    outputs = concrete(types[kernel.anchor.operands[1]])[0]
    return outputs // int(kernel.anchor.attr("groups")) >= DENSE_CHANNELS


def is_windowed(kernel: Kernel, types: Mapping[str, Type]) -> bool:
    """Pooling, or a summed cross-correlation that is not dense."""
    if kernel.anchor.opcode in POOLS:
        return True
    return kernel.is_summed and not is_dense(kernel, types)


def extents(kernel: Kernel, types: Mapping[str, Type]) -> dict[str, int]:
    """Extent of every loop of the kernel by its name."""
    output = concrete(kernel.nodes[-1].type)
    loops = dict(zip(axes(len(output)), output, strict=True))
    anchor = kernel.anchor
    if anchor.opcode == "cross_correlation":
        _, loops["ci"], loops["kh"], loops["kw"] = concrete(types[anchor.operands[1]])
    elif anchor.opcode == "matmul":
        loops["ci"] = concrete(types[anchor.operands[0]])[-1]
    elif anchor.opcode in POOLS:
        loops["kh"], loops["kw"] = anchor.attr("kernel")
    elif anchor.opcode in REDUCTIONS and anchor.attr("axis"):
        source = concrete(types[anchor.operands[0]])
        loops["ci"] = prod(source) // prod(concrete(anchor.type))
    return loops


def vector_loop(kernel: Kernel, types: Mapping[str, Type]) -> str:
    """The loop of the inner tile that is vectorised."""
    return "co" if is_dense(kernel, types) else axes(kernel.nodes[-1].type.rank)[-1]


def tiled_loops(kernel: Kernel, types: Mapping[str, Type]) -> tuple[str, ...]:
    """The loops that may have an inner tile: those of the output."""
    return axes(kernel.nodes[-1].type.rank)


def clamp(tile: Mapping[str, int], extents: Mapping[str, int]) -> dict[str, int]:
    """Sizes brought into 1..extent; names that are no loop of this kernel dropped."""
    return {
        loop: max(1, min(size, extents[loop]))
        for loop, size in tile.items()
        if loop in extents
    }


def legal_tiles(
    kernel: Kernel, types: Mapping[str, Type]
) -> dict[str, tuple[int, ...]]:
    """Sizes worth trying for each loop: divisors, multiples of vectors, the extent."""
    sizes = extents(kernel, types)
    usual = (1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16, 24, 28, 32, 48, 64)
    return {
        loop: tuple(s for s in usual if s <= sizes[loop]) or (1,)
        for loop in tiled_loops(kernel, types)
    }


def legal_unrolls(
    kernel: Kernel, types: Mapping[str, Type]
) -> dict[str, tuple[int, ...]]:
    """Factors for each loop: its divisors up to 8."""
    return {
        loop: tuple(f for f in range(1, 9) if extent % f == 0)
        for loop, extent in extents(kernel, types).items()
    }


def accumulator_budget(machine: Core) -> int:
    """Vector registers for the tile: the rest holds weights, inputs and addresses.

    Half of 32 registers, as LLVM keeps up to 12 loads in flight around it (seen in its
    code for Cortex-A53 and AVX-512: 20 or more accumulators spill); 12 of 16.
    """
    return min(16, machine.vector_registers * 3 // 4)


def default_tile(
    kernel: Kernel, types: Mapping[str, Type], machine: Core
) -> dict[str, int]:
    """Sizes of the inner tile, one for each output loop.

    The cheapest of the tiles that fit the registers, by the cycles that FMAs and loads
    need for all steps, tails included. Sizes in ``kernel.tile`` are kept and the others
    chosen to go with them.
    """
    sizes = extents(kernel, types)
    fixed = clamp(dict(kernel.tile), sizes)
    names = tiled_loops(kernel, types)
    tile = dict.fromkeys(names, 1)
    rows: tuple[str, ...]
    vector = vector_loop(kernel, types)
    if is_dense(kernel, types):
        from gos_fx.kernels.dense_tiles import default_block

        return default_block(kernel, types, machine)
    if kernel.anchor.opcode == "matmul":
        rows, widths = (names[-2],), _vectors(sizes[vector], machine)
    elif is_windowed(kernel, types):
        rows, widths = ("ho",), _row_vectors(sizes[vector], machine)
    else:
        tile[vector] = min(sizes[vector], 4 * lanes(machine))
        return tile | {loop: size for loop, size in fixed.items() if loop in tile}
    spaces = {loop: _row_sizes(sizes[loop]) for loop in rows} | {vector: widths}
    spaces |= {loop: (size,) for loop, size in fixed.items() if loop in tile}
    tile |= _cheapest(kernel, types, spaces, machine)
    groups = int(kernel.anchor.attrs.get("groups", 1))
    if is_dense(kernel, types) and groups > 1:  # a block lies in one group
        tile["co"] = _divisor(sizes["co"] // groups, tile["co"])
    return tile


def default_unroll(
    kernel: Kernel, types: Mapping[str, Type], tile: Mapping[str, int], machine: Core
) -> dict[str, int]:
    """Unroll factors: ``kernel.unroll``, and all of kw where the body stays small.

    With kw unrolled, neighbouring taps share the inputs that are already in registers.
    Factors are brought down to a divisor of the loop.
    """
    sizes = extents(kernel, types)
    factors = dict(kernel.unroll)
    if is_dense(kernel, types):
        return {n: _divisor(sizes[n], f) for n, f in ({"ci": 2} | factors).items()}
    if "kw" in sizes and "kw" not in factors:
        taps = sizes["kw"]
        vectors = tile_vectors(kernel, types, tile, machine)
        small = vectors <= accumulator_budget(machine) and vectors * taps <= MAX_BODY
        factors["kw"] = taps if small and taps <= 7 else 1
    if is_windowed(kernel, types):
        factors["kw"] = sizes["kw"]  # the phase of a strided input must be constant
    outer = {loop: ceil(sizes[loop] / tile.get(loop, 1)) for loop in sizes}
    return {
        loop: _divisor(outer[loop], factor)
        for loop, factor in factors.items()
        if loop in sizes
    }


def _divisor(extent: int, most: int) -> int:
    """The largest divisor of ``extent`` that is not above ``most``."""
    return max(f for f in range(1, max(1, min(most, extent)) + 1) if extent % f == 0)


def lanes(machine: Core) -> int:
    """float32 elements of a vector register."""
    return machine.simd_bits // 32


def tile_vectors(
    kernel: Kernel, types: Mapping[str, Type], tile: Mapping[str, int], machine: Core
) -> int:
    """Vector registers that the accumulators of an inner tile take."""
    vector = vector_loop(kernel, types)
    others = prod(tile.get(n, 1) for n in tiled_loops(kernel, types) if n != vector)
    return ceil(tile.get(vector, 1) / lanes(machine)) * others


def outputs_first(
    kernel: Kernel, types: Mapping[str, Type], tile: Mapping[str, int], machine: Core
) -> bool:
    """Whether the loop over output channels goes outside that over rows.

    Outside, weights are read once and the input once per block of channels; inside,
    the input once and the weights once per block of rows. What fits half of the L2
    cache is only read once from memory anyway.
    """
    sizes = extents(kernel, types)
    weights = 4 * sizes["co"] * sizes["ci"] * sizes["kh"] * sizes["kw"]
    inputs = 4 * prod(concrete(types[kernel.anchor.operands[0]])[1:])
    half = machine.l2_bytes // 2
    channel_blocks = ceil(sizes["co"] / tile["co"])
    row_blocks = ceil(sizes["ho"] / tile["ho"])
    outside = weights + inputs * (1 if inputs <= half else channel_blocks)
    inside = inputs + weights * (1 if weights <= half else row_blocks)
    return outside <= inside


def _cheapest(
    kernel: Kernel,
    types: Mapping[str, Type],
    spaces: Mapping[str, tuple[int, ...]],
    machine: Core,
) -> dict[str, int]:
    """The tile of fewest cycles among those that fit the registers.

    Of those that cost the same it is the first, that is the smallest; where none fits,
    because of fixed sizes, the one with the fewest accumulators.
    """
    vector, width = vector_loop(kernel, types), lanes(machine)
    at = tuple(spaces).index(vector)
    tiles = list(product(*spaces.values()))
    vectors = [prod(sizes) // sizes[at] * ceil(sizes[at] / width) for sizes in tiles]
    budget = accumulator_budget(machine)
    if max(kernel.anchor.attrs.get("stride", (1, 1))) > 1 and budget >= 16:
        budget -= 2  # strided columns share no loads and need registers of their own
    windowed = is_windowed(kernel, types)
    if windowed and machine.simd_bits == 128:
        budget //= 2  # NEON multiplies no operand in memory: inputs need registers too
    limit = max(budget, min(vectors))
    fitting = [
        dict(zip(spaces, sizes))
        for sizes, count in zip(tiles, vectors)
        if count <= limit
    ]
    sizes = extents(kernel, types)
    cost = _window_cycles if windowed else _tile_cycles
    return min(fitting, key=lambda tile: cost(kernel, tile, vector, sizes, machine))


def _row_sizes(extent: int) -> tuple[int, ...]:
    return tuple(sorted({*(r for r in _ROWS if r < extent), min(extent, _ROWS[-1])}))


def _vectors(extent: int, machine: Core) -> tuple[int, ...]:
    """Whole vectors, the last one perhaps with a tail of zeros."""
    width = lanes(machine)
    return tuple(width * n for n in (1, 2, 3, 4, 6, 8) if width * (n - 1) < extent)


def _row_vectors(extent: int, machine: Core) -> tuple[int, ...]:
    """Powers of two up to two vectors, and a short row as a whole.

    LLVM splits other widths badly.
    """
    width = lanes(machine)
    powers = {w for w in (4, 8, 16, 32) if w <= min(extent, 2 * width)}
    return tuple(sorted(powers | ({extent} if extent <= width else set()))) or (1,)


def _window_cycles(
    kernel: Kernel,
    tile: Mapping[str, int],
    vector: str,
    sizes: Mapping[str, int],
    machine: Core,
) -> float:
    """Cycles of one reduction step over all tiles of the output, for windows."""
    blocks, wide, rows, fma, latency = _fmas(tile, vector, sizes, machine)
    vector_load = machine.simd_bits / 8 / machine.load_bytes_per_cycle
    load = (wide * rows + 1) * vector_load
    # A vector that crosses the end of a row is stored element by element.
    stores = rows * (tile[vector] if sizes[vector] % tile[vector] else wide)
    tail = 1.5 * stores / (sizes["kh"] * sizes["kw"])
    return blocks * (max(fma, latency) + load + tail + 1)


def _tile_cycles(
    kernel: Kernel,
    tile: Mapping[str, int],
    vector: str,
    sizes: Mapping[str, int],
    machine: Core,
) -> float:
    """Cycles of one reduction step over all tiles of the output."""
    blocks, wide, rows, fma, latency = _fmas(tile, vector, sizes, machine)
    register_bytes = machine.simd_bits // 8
    vector_load = register_bytes / machine.load_bytes_per_cycle
    # A block of weights that leaves no room in L1 comes from L2 for every tile.
    block = 4 * tile[vector] * prod(sizes.get(loop, 1) for loop in REDUCTION_LOOPS)
    rate = machine.load_bytes_per_cycle
    if block > machine.l1d_bytes // 2:
        rate = min(rate, machine.l2_bytes_per_cycle)
    load = wide * register_bytes / rate
    missed = 0.0
    if kernel.anchor.opcode == "matmul":
        load += rows * max(0.5, vector_load / 2)
    else:
        load += _input_loads(kernel, tile, sizes, machine)
        missed = _input_bytes(kernel, tile, sizes) / machine.l2_bytes_per_cycle
    return blocks * (max(fma, load, latency) + 0.25 * min(fma, load) + missed + 1)


def _fmas(
    tile: Mapping[str, int], vector: str, sizes: Mapping[str, int], machine: Core
) -> tuple[int, int, int, float, float]:
    """Blocks, vectors of a row, rows, and the cycles of FMAs and of their latency."""
    blocks = prod(ceil(sizes[loop] / size) for loop, size in tile.items())
    wide = ceil(tile[vector] / lanes(machine))
    rows = prod(tile.values()) // tile[vector]
    fma = wide * rows / machine.fma_per_cycle
    # FMA latency: fewer accumulators than about 8 cannot keep the unit busy.
    latency = 8 / machine.fma_per_cycle if wide * rows < 8 else 0.0
    return blocks, wide, rows, fma, latency


def _input_bytes(
    kernel: Kernel, tile: Mapping[str, int], sizes: Mapping[str, int]
) -> float:
    """Bytes of input that a tile reads for the first time, per step."""
    stride = kernel.anchor.attr("stride")
    height = (tile["ho"] - 1) * stride[0] + sizes["kh"]
    width = (tile["wo"] - 1) * stride[1] + sizes["kw"]
    return float(4 * height * width / (sizes["kh"] * sizes["kw"]))


def _input_loads(
    kernel: Kernel, tile: Mapping[str, int], sizes: Mapping[str, int], machine: Core
) -> float:
    """Cycles of loading the inputs of one step of a dense convolution.

    NEON multiplies by a lane of a vector, so neighbouring columns come with one load,
    and with kw unrolled the taps share it; wider machines broadcast every input from
    memory by itself.
    """
    vector_load = machine.simd_bits / 8 / machine.load_bytes_per_cycle
    rows, columns = tile["ho"], tile["wo"]
    strided = kernel.anchor.attrs.get("stride", (1, 1))[1] > 1
    if machine.simd_bits > 128 or strided or columns == 1:
        return float(rows * columns * max(0.5, vector_load / 2))
    taps = sizes["kw"]
    loaded = ceil((columns + taps - 1) / lanes(machine)) / taps
    return float(rows * loaded * vector_load)
