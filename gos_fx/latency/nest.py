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
        copied: bytes copied before the nest, to pad or to separate strides.
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
        reads = _matmul_reads(kernel, types)
    elif anchor.opcode == "cross_correlation" or anchor.opcode in tiles.POOLS:
        reads = _window_reads(kernel, types)
    else:
        return None
    extents = tiles.extents(kernel, types)
    tile = tiles.default_tile(kernel, types, machine)
    shape = tiles.concrete(kernel.nodes[-1].type)
    order = list(AXES[len(shape)])
    dense = tiles.is_dense(kernel, types)
    if dense and not tiles.outputs_first(kernel, types, tile, machine):
        order = ["n", "ho", "co", "wo"]
    return Nest(
        outputs={loop: extents[loop] for loop in order},
        reductions={
            loop: extents[loop]
            for loop in tiles.REDUCTION_LOOPS
            if loop in extents and loop not in order
        },
        tile={loop: tile[loop] for loop in order},
        unroll=tiles.default_unroll(kernel, types, tile, machine),
        vector=tiles.vector_loop(kernel, types),
        reads=reads,
        late=_late(kernel, types, reads),
        write=_same(kernel.output, kernel.nodes[-1].type),
        scattered=dense,
        copied=_copied(kernel, types),
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


def _matmul_reads(kernel: Kernel, types: Mapping[str, Type]) -> tuple[Stream, ...]:
    *batch, row, column = AXES[kernel.anchor.type.rank]
    streams = []
    for name, last in zip(kernel.anchor.operands, ((row, "ci"), ("ci", column))):
        shape = tiles.concrete(types[name])
        outer = batch if len(shape) > 2 else []
        axes = tuple(map(along, shape, (*outer, *last)))
        streams.append(Stream(name, types[name].role, axes))
    return tuple(streams)


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


def _copied(kernel: Kernel, types: Mapping[str, Type]) -> int:
    """Bytes of the copy that pads the input, or lays the columns of a stride apart."""
    attributes = kernel.anchor.attrs
    padding = attributes.get("padding", (0, 0, 0, 0))
    strided = tiles.is_windowed(kernel, types) and attributes["stride"][1] > 1
    if not any(padding) and not strided:
        return 0
    n, c, h, w = tiles.concrete(types[kernel.anchor.operands[0]])
    top, bottom, left, right = padding
    return FLOAT_BYTES * n * c * (h + top + bottom) * (w + left + right)
