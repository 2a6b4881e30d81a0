"""A kernel as a loop nest: extents, tile, unrolling, and what each step reads.

Nothing here counts cycles; ``gos_fx.latency.roofline`` does.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.graph import Graph
from gos_fx.ir.types import AXES, Type
from gos_fx.kernels import tiles
from gos_fx.targets.target import Machine

FLOAT_BYTES = 4
# Multiply-adds from which the code generator makes a kernel parallel, and the blocks
# for each core that let it leave the innermost outer loop out
# (kernels/schedules/register_tile.py).
PARALLEL_WORK = 1 << 15
BALANCE = 4
Extents = Mapping[str, int]


@dataclass(frozen=True)
class Axis:
    """One axis of a value: iteration i of a loop is at ``i // every * step``.

    ``loops`` holds (loop, step, every); the positions of several loops add up.
    """

    size: int
    loops: tuple[tuple[str, int, int], ...] = ()

    def positions(self, extents: Extents) -> int:
        """Distance from the first to the last position, at most the whole axis."""
        moves = ((extents[x] - 1) // every * step for x, step, every in self.loops)
        return min(self.size, 1 + sum(moves))


def along(size: int, *loops: str) -> Axis:
    """An axis on which the loops take one step for each iteration."""
    return Axis(size, tuple((loop, 1, 1) for loop in loops))


@dataclass(frozen=True)
class Stream:
    """A value that a nest reads or writes. ``role`` is that of its type."""

    name: str
    role: str
    axes: tuple[Axis, ...]

    def moves_with(self, loop: str) -> bool:
        """Whether neighbouring iterations of the loop read different elements."""
        return any(
            loop == name and every == 1
            for axis in self.axes
            for name, _, every in axis.loops
        )

    def elements(self, extents: Extents) -> int:
        """Distinct elements touched while the loops run over these extents."""
        return prod(axis.positions(extents) for axis in self.axes)

    def bytes(self, extents: Extents) -> int:
        return FLOAT_BYTES * self.elements(extents)


@dataclass(frozen=True)
class Nest:
    """Outer loops over tiles of ``outputs``, then ``reductions``, then the tile.

    Attributes:
        outputs: extents in the order in which the tiles are visited, outermost first.
        reductions: extents, outermost first.
        tile: size of the register tile along each output loop.
        unroll: factors of reduction and outer loops.
        vector: the loop of the tile that is vectorised.
        reads: operands of the inner step.
        late: values that the epilogue reads.
        write: the result.
        scattered: the result is not contiguous along the vectorised loop.
        copied: bytes copied before the nest: to pad, to separate strides, to pack.
    """

    outputs: dict[str, int]
    reductions: dict[str, int]
    tile: dict[str, int]
    unroll: dict[str, int]
    vector: str
    reads: tuple[Stream, ...]
    late: tuple[Stream, ...]
    write: Stream
    scattered: bool
    copied: int

    @property
    def tiles(self) -> dict[str, int]:
        """Tiles along each output loop; the last one may be cut."""
        return {
            loop: -(-size // self.tile[loop]) for loop, size in self.outputs.items()
        }

    def parts(self, cores: int) -> int:
        """Equal parts that the code generator gives to threads."""
        if prod(self.outputs.values()) * self.steps < PARALLEL_WORK:
            return 1
        *outer, last = self.tiles.values()
        blocks = prod(outer)
        return blocks if blocks >= BALANCE * cores else blocks * last

    @property
    def steps(self) -> int:
        """Inner steps of one tile."""
        return prod(self.reductions.values())

    @property
    def streams(self) -> tuple[Stream, ...]:
        return (*self.reads, *self.late, self.write)

    def extents(self, outputs: Extents) -> dict[str, int]:
        """These output extents with the whole reduction."""
        return {**outputs, **self.reductions}


def nest_of(kernel: Kernel, graph: Graph, machine: Machine) -> Nest | None:
    """The nest of a windowed kernel or matmul with the tile that it is compiled with.

    None for kernels that only stream their operands: element-wise ones, reductions,
    softmax, and those that move data. The graph is concrete.
    """
    return _nest(kernel, tuple(graph.types[name] for name in kernel.inputs), machine)


@functools.lru_cache(maxsize=4096)
def _nest(kernel: Kernel, inputs: tuple[Type, ...], machine: Machine) -> Nest | None:
    anchor, types = kernel.anchor, dict(zip(kernel.inputs, inputs, strict=True))
    if anchor.opcode == "matmul":
        return _matmul(kernel, types, machine)
    if anchor.opcode == "cross_correlation" and not kernel.is_summed:
        return None  # maps in memory: a stream of products
    if anchor.opcode == "cross_correlation" or anchor.opcode in tiles.POOLS:
        return _windows(kernel, types, machine)
    return None


def _windows(kernel: Kernel, types: Mapping[str, Type], machine: Machine) -> Nest:
    """Convolution and pooling."""
    extents = tiles.extents(kernel, types)
    tile = tiles.clamp(tiles.default_tile(kernel, types, machine), extents)
    tile["n"] = 1
    order = ("n", "co", "ho", "wo")
    dense = tiles.is_dense(kernel, types)
    if dense:
        groups = int(kernel.anchor.attr("groups"))
        tile["co"] = min(tile["co"], extents["co"] // groups)
        if not tiles.outputs_first(kernel, types, tile, machine):
            order = ("n", "ho", "co", "wo")
    reads = _window_reads(kernel, types)
    return Nest(
        outputs={loop: extents[loop] for loop in order},
        reductions={x: extents[x] for x in ("ci", "kh", "kw") if x in extents},
        tile={loop: tile[loop] for loop in order},
        unroll=tiles.default_unroll(kernel, types, tile, machine),
        vector="co" if dense else "wo",
        reads=reads,
        late=_late(kernel, types, reads),
        write=_same(kernel.output, kernel.nodes[-1].type),
        scattered=dense,
        copied=_padded_bytes(kernel, types, extents, tile),
    )


def _matmul(kernel: Kernel, types: Mapping[str, Type], machine: Machine) -> Nest:
    *batch, row, column = AXES[kernel.anchor.type.rank]
    extents = tiles.extents(kernel, types)
    tile = tiles.clamp(tiles.default_tile(kernel, types, machine), extents)
    tile |= dict.fromkeys(batch, 1)
    reads = []
    copied = 0
    for name, last in zip(kernel.anchor.operands, ((row, "ci"), ("ci", column))):
        shape = tiles.concrete(types[name])
        outer = batch if len(shape) > 2 else []
        axes = tuple(map(along, shape, (*outer, *last)))
        reads.append(Stream(name, types[name].role, axes))
        # The right operand is packed by columns, a weight at compile time; the left one
        # is made longer where the last tile is cut.
        cut = last[0] == row and extents[row] % tile[row] > 0
        if cut or (last[1] == column and types[name].role == "map"):
            copied += FLOAT_BYTES * prod(shape)
    return Nest(
        outputs={loop: extents[loop] for loop in (*batch, column, row)},
        reductions={"ci": extents["ci"]},
        tile={loop: tile[loop] for loop in (*batch, column, row)},
        unroll=tiles.default_unroll(kernel, types, tile, machine),
        vector=column,
        reads=tuple(reads),
        late=_late(kernel, types, tuple(reads)),
        write=_same(kernel.output, kernel.nodes[-1].type),
        scattered=False,
        copied=copied,
    )


def _same(name: str, value: Type) -> Stream:
    """A value indexed by the output loops one to one."""
    shape = tiles.concrete(value)
    return Stream(name, value.role, tuple(map(along, shape, AXES[len(shape)])))


def _window_reads(kernel: Kernel, types: Mapping[str, Type]) -> tuple[Stream, ...]:
    anchor = kernel.anchor
    name = anchor.operands[0]
    n, c, h, w = tiles.concrete(types[name])
    step = anchor.attr("stride")
    apart = anchor.attrs.get("dilation", (1, 1))
    rows = Axis(h, (("ho", step[0], 1), ("kh", apart[0], 1)))
    columns = Axis(w, (("wo", step[1], 1), ("kw", apart[1], 1)))
    batch = along(n, "n")
    if anchor.opcode in tiles.POOLS:
        return (Stream(name, "map", (batch, along(c, "co"), rows, columns)),)
    weight = anchor.operands[1]
    outputs, per_group, taps_h, taps_w = tiles.concrete(types[weight])
    # Every outputs / groups output channels begin the inputs of another group.
    every = outputs // int(anchor.attr("groups"))
    channels = Axis(c, (("ci", 1, 1), ("co", per_group, every)))
    kernel_axes = (
        along(outputs, "co"),
        along(per_group, "ci"),
        along(taps_h, "kh"),
        along(taps_w, "kw"),
    )
    return (
        Stream(name, "map", (batch, channels, rows, columns)),
        Stream(weight, types[weight].role, kernel_axes),
    )


def _late(
    kernel: Kernel, types: Mapping[str, Type], reads: tuple[Stream, ...]
) -> tuple[Stream, ...]:
    """Whole maps that the epilogue reads; a bias of one number a channel is free."""
    early = {stream.name for stream in reads}
    return tuple(
        _same(name, types[name])
        for name in kernel.inputs
        if name not in early and types[name].shape == kernel.nodes[-1].type.shape
    )


def _padded_bytes(
    kernel: Kernel, types: Mapping[str, Type], extents: Extents, tile: Extents
) -> int:
    """Bytes of the grid that whole tiles read, where that is not the input itself.

    It is copied for padding, for the tails of tiles, and, where columns are vectorised,
    to lay the columns of a stride apart.
    """
    attributes = kernel.anchor.attrs
    n, c, *size = tiles.concrete(types[kernel.anchor.operands[0]])
    apart = attributes.get("dilation", (1, 1))
    grid: list[int] = []
    for i, axis in enumerate("hw"):
        out = -(-extents[f"{axis}o"] // tile[f"{axis}o"]) * tile[f"{axis}o"]
        taps = (extents[f"k{axis}"] - 1) * apart[i]
        grid.append((out - 1) * attributes["stride"][i] + taps + 1)
    padding = attributes.get("padding", (0, 0, 0, 0))
    larger = grid[0] > size[0] or grid[1] > size[1]
    strided = tiles.is_windowed(kernel, types) and attributes["stride"][1] > 1
    if not (padding[0] or padding[2] or larger or strided):
        return 0
    return FLOAT_BYTES * n * c * grid[0] * grid[1]
