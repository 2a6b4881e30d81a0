"""Tile sizes: which loops a kernel has and which sizes are legal.

Plain arithmetic on a machine's data, without TVM: the search mutates in this space and
the analytical latency model sees the same sizes as the code generator.

The inner (register) tile of a kernel is a block of outputs that stays in registers
while the reduction loops run around it. One loop of it, ``co``, is vectorised: the
channels of a pixel, and the columns of a matrix, lie side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import AXES, Type
from gos_fx.targets.target import Machine as Core

POOLS = ("max_pool", "avg_pool")
REDUCTIONS = ("sum", "mean", "max", "min", "weighted_mean")
REDUCTION_LOOPS = ("ci", "kh", "kw")
# Fewer output channels per group than this do not fill a vector of four lanes.
DENSE_CHANNELS = 4
# More statements than this in an unrolled body only cost instruction cache.
MAX_BODY = 512


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
    names = axes(kernel.nodes[-1].type.rank)
    return "co" if "co" in names else names[-1]


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


def lanes(machine: Core) -> int:
    """float32 elements of a vector register."""
    return machine.simd_bits // 32


def divisor(extent: int, most: int) -> int:
    """The largest divisor of ``extent`` that is not above ``most``."""
    return max(f for f in range(1, max(1, min(most, extent)) + 1) if extent % f == 0)


def tile_vectors(
    kernel: Kernel, types: Mapping[str, Type], tile: Mapping[str, int], machine: Core
) -> int:
    """Vector registers that the accumulators of an inner tile take."""
    vector = vector_loop(kernel, types)
    others = prod(tile.get(n, 1) for n in tiled_loops(kernel, types) if n != vector)
    return ceil(tile.get(vector, 1) / lanes(machine)) * others
