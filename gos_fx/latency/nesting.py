"""The loop nest that a kernel is compiled to: which tile, order, copies and streams."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from math import prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.graph import Graph
from gos_fx.ir.types import AXES, Type
from gos_fx.kernels import default_tiles, tiles
from gos_fx.latency.nest import FLOAT_BYTES, Axis, Copy, Extents, Nest, Stream, along
from gos_fx.targets.target import Machine


def nest_of(kernel: Kernel, graph: Graph, machine: Machine) -> Nest | None:
    """The nest of a windowed kernel or matmul with the tile that it is compiled with.

    None for kernels that only stream their operands: element-wise ones, reductions,
    softmax, and those that move data. The graph is concrete.
    """
    return nest_of_types(
        kernel, tuple(graph.types[name] for name in kernel.inputs), machine
    )


@functools.lru_cache(maxsize=4096)
def nest_of_types(
    kernel: Kernel, inputs: tuple[Type, ...], machine: Machine
) -> Nest | None:
    """:func:`nest_of`, by the types of the kernel's inputs; remembered."""
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
    tile = tiles.clamp(default_tiles.default_tile(kernel, types, machine), extents)
    tile["n"] = 1
    order = ("n", "co", "ho", "wo")
    dense = tiles.is_dense(kernel, types)
    if dense:
        groups = int(kernel.anchor.attr("groups"))
        tile["co"] = min(tile["co"], extents["co"] // groups)
        if not _outputs_first(kernel, types, tile, machine):
            order = ("n", "ho", "co", "wo")
    reads = _window_reads(kernel, types)
    return Nest(
        outputs={loop: extents[loop] for loop in order},
        reductions={x: extents[x] for x in ("ci", "kh", "kw") if x in extents},
        tile={loop: tile[loop] for loop in order},
        unroll=default_tiles.default_unroll(kernel, types, tile, machine),
        vector="co" if dense else "wo",
        reads=reads,
        late=_late(kernel, types, reads),
        write=_same(kernel.output, kernel.nodes[-1].type),
        scattered=dense,
        copies=_padded(kernel, types, extents, tile),
        is_counted=_is_counted(kernel),
    )


def _outputs_first(
    kernel: Kernel, types: Mapping[str, Type], tile: Extents, machine: Machine
) -> bool:
    """Whether the loop over output channels goes outside that over rows.

    Outside, weights are read once and the input once per block of channels; inside,
    the input once and the weights once per block of rows. What fits half of the L2
    cache is only read once from memory anyway.
    """
    sizes = tiles.extents(kernel, types)
    weights = FLOAT_BYTES * prod(sizes[loop] for loop in ("co", "ci", "kh", "kw"))
    inputs = FLOAT_BYTES * prod(tiles.concrete(types[kernel.anchor.operands[0]])[1:])
    half = machine.l2_bytes // 2
    channel_blocks = -(-sizes["co"] // tile["co"])
    row_blocks = -(-sizes["ho"] // tile["ho"])
    outside = weights + inputs * (1 if inputs <= half else channel_blocks)
    inside = inputs + weights * (1 if weights <= half else row_blocks)
    return outside <= inside


def _is_counted(kernel: Kernel) -> bool:
    attributes = kernel.anchor.attrs
    return (
        kernel.anchor.opcode == "avg_pool"
        and not attributes["include_pad"]
        and attributes["padding"] != (0, 0, 0, 0)
    )


def _matmul(kernel: Kernel, types: Mapping[str, Type], machine: Machine) -> Nest:
    *batch, row, column = AXES[kernel.anchor.type.rank]
    extents = tiles.extents(kernel, types)
    tile = tiles.clamp(default_tiles.default_tile(kernel, types, machine), extents)
    tile |= dict.fromkeys(batch, 1)
    reads = []
    copies = []
    for name, last in zip(kernel.anchor.operands, ((row, "ci"), ("ci", column))):
        shape = tiles.concrete(types[name])
        outer = batch if len(shape) > 2 else []
        axes = tuple(map(along, shape, (*outer, *last)))
        reads.append(Stream(name, types[name].role, axes))
        # The right operand is packed by columns, a weight at compile time.
        if last[1] == column and types[name].role == "map":
            width = -(-shape[-1] // tile[column]) * tile[column]
            planes = prod(shape[:-2])
            copies.append(Copy(name, planes, shape[-2], width, by_element=True))
    return Nest(
        outputs={loop: extents[loop] for loop in (*batch, column, row)},
        reductions={"ci": extents["ci"]},
        tile={loop: tile[loop] for loop in (*batch, column, row)},
        unroll=default_tiles.default_unroll(kernel, types, tile, machine),
        vector=column,
        reads=tuple(reads),
        late=_late(kernel, types, tuple(reads)),
        write=_same(kernel.output, kernel.nodes[-1].type),
        scattered=False,
        copies=tuple(copies),
        cut=extents[row] % tile[row] > 0,
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


def _padded(
    kernel: Kernel, types: Mapping[str, Type], extents: Extents, tile: Extents
) -> tuple[Copy, ...]:
    """The grid that whole tiles read, where that is not the input itself.

    It is copied for padding, for the tails of tiles, and, where columns are vectorised,
    to lay the columns of a stride apart.
    """
    attributes = kernel.anchor.attrs
    source = kernel.anchor.operands[0]
    n, c, *size = tiles.concrete(types[source])
    apart = attributes.get("dilation", (1, 1))
    grid: list[int] = []
    for i, axis in enumerate("hw"):
        out = -(-extents[f"{axis}o"] // tile[f"{axis}o"]) * tile[f"{axis}o"]
        taps = (extents[f"k{axis}"] - 1) * apart[i]
        grid.append((out - 1) * attributes["stride"][i] + taps + 1)
    top, _, left, _ = attributes.get("padding", (0, 0, 0, 0))
    windowed = tiles.is_windowed(kernel, types)
    phases = attributes["stride"][1] if windowed else 1
    grid[1] = -(-grid[1] // phases) * phases
    larger = grid[0] > size[0] or grid[1] > size[1]
    if windowed:
        larger = larger or grid[1] != size[1]
        channels = extents["co"] == c and extents.get("ci", 1) == 1
        local = channels and tile["co"] == 1
    else:
        local = False
    copies = []
    if top or left or larger:
        whole = (
            top <= 0
            and left <= 0
            and grid[0] <= size[0] + top
            and grid[1] <= size[1] + left
        )
        inside = (min(size[0], grid[0] - top), min(size[1], grid[1] - left))
        copies.append(
            Copy(
                source,
                n * c,
                grid[0],
                grid[1],
                not whole,
                inside,
                local=local,
                by_element=whole,
                zeros=kernel.anchor.opcode != "max_pool",
            )
        )
    if phases > 1:
        rows = grid[0] if copies else size[0]
        copies.append(Copy(source, n * c, rows, grid[1], phases=phases, local=local))
    return tuple(copies)
