"""Kernels without a register tile: the plain schedule, stage by stage.

The plain schedule (``gos_fx.kernels.schedules.stage``) makes one loop over all elements
whose body is a vector, or, under tile and unroll nodes, loops around a tile. LLVM
keeps a body in vectors where TVM could show that it lies in one row of memory;
otherwise it computes an address for every element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.graph import Node
from gos_fx.ir.types import Type, axis_index
from gos_fx.kernels import tiles
from gos_fx.kernels.layout import inside, stored_shape
from gos_fx.latency.constants import Constants
from gos_fx.latency.work import FLOAT_BYTES, Loop, Stage, Sweep, Work
from gos_fx.targets.target import Machine

# Elements from which the plain schedule is parallel, and its widest vector
# (kernels/schedules/stage.py).
PARALLEL_WORK = 1 << 14
MAX_VECTOR = 64
# Cycles of arithmetic from which LLVM leaves a loop over numbers as it is.
_SIMPLE = 10.0
_MOVES = (
    *("concat", "transpose", "resize", "reshape", "move", "slice", "expand", "pad"),
)


def arithmetic(node: Node, c: Constants) -> float:
    """Cycles of one vector of an instruction's results, without loads and stores."""
    if node.opcode == "relu":
        return c.simple if node.attr("slope") == 0.0 else 2 * c.simple
    named = {
        "div": c.div,
        "sqrt": c.sqrt,
        "rsqrt": c.sqrt + c.div,
        "exp": c.exp,
        "sigmoid": c.exp + c.div + c.simple,
        "silu": c.exp + c.div + 2 * c.simple,
        "tanh": c.tanh + c.div,
        "erf": c.tanh + c.div,
        "gelu": c.tanh + c.div + 4 * c.simple,
        "clip": 2 * c.simple,
        "affine": 2 * c.simple,
        "absolute": 2 * c.simple,
    }
    if node.opcode in named:
        return named[node.opcode]
    if node.opcode in _MOVES:
        return 0.0
    return c.simple * max(1, len(node.operands) - 1)


def vector_width(extent: int, widest: int) -> int:
    """The widest divisor of an extent that the plain schedule's vector may have."""
    limit = min(extent, widest, MAX_VECTOR)
    return max(w for w in range(1, limit + 1) if extent % w == 0)


def crosses(shape: Sequence[int], width: int) -> bool:
    """Whether a vector along the fused loop is taken apart, element by element.

    TVM recognises the fused index as the flat one if no axis lies in line with the
    vectors, or all do; if some do, the index of the others is computed for each lane.
    """
    total = prod(shape)
    suffix = {prod(shape[i:]) for i in range(1, len(shape))} - {1, total}
    aligned = [extent % width == 0 or width % extent == 0 for extent in suffix]
    return any(aligned) and not all(aligned)


def stream_work(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine, c: Constants
) -> Work:
    """Its loops and what it reads and writes."""
    per = machine.line_bytes / FLOAT_BYTES
    sizes = {x: prod(tiles.concrete(types[x])) / per for x in kernel.inputs}
    out = prod(tiles.concrete(kernel.nodes[-1].type)) / per
    maps = [Sweep(x, sizes[x], True) for x in sizes if types[x].role == "map"]
    inputs = [Sweep(x, size) for x, size in sizes.items()]
    stages: list[Stage] = [maps]
    opcode = kernel.anchor.opcode
    if opcode == "cross_correlation":
        made = prod(tiles.concrete(kernel.anchor.type)) / per
        stages += [[*inputs, Sweep("maps", made, True)]]
        inputs = [Sweep("maps", made)]
    elif opcode == "softmax":
        stages += [inputs, [*inputs, Sweep("exp", out, True)], [Sweep("exp", out)]]
        inputs = [Sweep("exp", out)]
    elif opcode == "layer_norm":
        stages += [inputs, inputs]
    stages.append([*inputs, Sweep(kernel.output, out, True)])
    return Work(tuple(_loops(kernel, types, machine, c)), tuple(stages))


def _loops(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine, c: Constants
) -> list[Loop]:
    """The loops of a kernel in order of execution."""
    anchor, last = kernel.anchor, kernel.nodes[-1]
    of = types[anchor.operands[0]]
    each = sum(arithmetic(node, c) for node in kernel.nodes)
    loops: list[Loop] = []
    if anchor.opcode == "cross_correlation":
        loops.append(_maps(kernel, types, machine, c))
        if len(kernel.nodes) > 1:
            axis = str(kernel.nodes[1].attrs.get("axis", "ci"))
            loops.append(_reduced(anchor.type, axis_index(axis, 5), machine, c))
        return loops
    if anchor.opcode == "softmax":
        at = axis_index(str(anchor.attr("axis")), of.rank)
        loops.append(_reduced(of, at, machine, c))
        loops.append(_plain(of, 2, c.exp + c.simple, machine, c, 0))
        loops.append(_reduced(of, at, machine, c))
        each = c.div
    elif anchor.opcode == "layer_norm":
        loops += 2 * [_reduced(of, of.rank - 1, machine, c)]
        each = c.div + c.sqrt + 3 * c.simple
    elif anchor.opcode in tiles.REDUCTIONS and anchor.attrs.get("axis"):
        at = axis_index(str(anchor.attr("axis")), of.rank)
        loops.append(_reduced(of, at, machine, c))
        rest = kernel.nodes[1:]
        if anchor.opcode in ("sum", "max", "min") and not rest:
            return loops
        each = sum(arithmetic(node, c) for node in rest) + c.simple
    if kernel.tile or kernel.unroll:
        loops.append(_tiled(kernel, types, each, machine, c))
    elif anchor.opcode in _MOVES:
        loops.append(_moved(kernel, machine, c))
    else:
        vectors = sum(types[name].rank == 1 for name in kernel.inputs)
        reads = len(kernel.inputs) - vectors
        loops.append(_plain(last.type, reads, each, machine, c, vectors))
    return loops


def _plain(
    of: Type, reads: int, each: float, machine: Machine, c: Constants, channels: int
) -> Loop:
    """A loop over all elements that reads whole maps and numbers of each channel."""
    shape = stored_shape(of)
    total = prod(shape)
    width = vector_width(total, 4 * machine.lanes)
    parts = total // width if total >= PARALLEL_WORK else 1
    vectors = ceil(width / machine.lanes)
    moved = vectors * (c.stream_load * reads + c.stream_store + each)
    if width == 1:  # left to LLVM, which makes vectors of what is simple
        if each < _SIMPLE:
            return Loop(total / machine.lanes * (c.stream_loop + moved), parts)
        return Loop(total * (c.stream_loop + c.scalar * each), parts)
    if crosses(shape, width):
        moved = vectors * each + width * (c.lane + c.lane_read * (reads - 1))
    aligned = shape[-1] % width == 0 or width % shape[-1] == 0
    moved += channels * (c.channel * vectors if aligned else c.lane_channel * width)
    return Loop(total // width * (c.stream_loop + moved), parts)


def _tiled(
    kernel: Kernel,
    types: Mapping[str, Type],
    each: float,
    machine: Machine,
    c: Constants,
) -> Loop:
    """The tile's loops in one iteration of the others, in the order of memory."""
    of = kernel.nodes[-1].type
    names = inside(of).stored(tiles.axes(of.rank))
    extents = dict(zip(names, stored_shape(of), strict=True))
    tile = dict.fromkeys(names, 1) | {
        k: v for k, v in tiles.clamp(dict(kernel.tile), extents).items() if k in names
    }
    trips = {loop: ceil(extents[loop] / tile[loop]) for loop in names}
    parts = prod(trips.values())
    for loop, factor in kernel.unroll:
        if loop in trips:
            parts //= vector_width(trips[loop], min(factor, trips[loop]))
    size, inner = tile[names[-1]], prod(tile.values())
    blocks = prod(trips.values())
    cut = any(extents[loop] % tile[loop] for loop in names)
    vectors = ceil(size / machine.lanes)
    if size > MAX_VECTOR or cut or size == 1:
        whole = not cut and inner >= machine.lanes
        body = inner * (c.element + (c.cut_element if cut else 0.0))
        body += each * (ceil(inner / machine.lanes) if whole else inner)
    else:
        reads = len(kernel.inputs)
        body = vectors * (c.stream_load * reads + c.stream_store + each)
        body = inner // size * (c.row + body)
    return Loop(parts * c.tile_block + blocks * body, parts)


def _reduced(of: Type, at: int, machine: Machine, c: Constants) -> Loop:
    """One stage of a reduction over an axis, by vectors of the last axis that stays."""
    source = tiles.concrete(of)
    points = prod(source)
    spatial = [i for i in range(of.rank) if i != at]
    width = 1
    if len(spatial) > 1:
        width = vector_width(source[spatial[-1]], 2 * machine.lanes)
    contiguous = inside(of).order[-1] == spatial[-1]
    parts = points // source[at] // width if points >= PARALLEL_WORK else 1
    steps = points // width
    if width == 1:
        return Loop(steps * c.reduce_scalar, parts)
    if contiguous:
        step = c.reduce_step + c.reduce_vector * ceil(width / machine.lanes)
    else:
        step = c.reduce_step + c.reduce_strided * width
    return Loop(steps * step + points // source[at] // width * c.reduce_start, parts)


def _moved(kernel: Kernel, machine: Machine, c: Constants) -> Loop:
    """Elements that are fetched from where they were."""
    of = kernel.nodes[-1].type
    shape = stored_shape(of)
    total = prod(shape)
    width = vector_width(total, 4 * machine.lanes)
    parts = total // width if total >= PARALLEL_WORK else 1
    opcode = kernel.anchor.opcode
    in_row = shape[-1] % width == 0
    if opcode == "concat":
        element = c.concat
        axis = str(kernel.anchor.attr("axis"))
        if inside(of).order[-1] == axis_index(axis, of.rank):
            element += c.concat_inner * (len(kernel.anchor.operands) - 1)
    elif opcode == "resize":
        element = c.resize_inside if in_row else c.resize
    else:
        element = c.transpose_inside if in_row else c.transpose
    return Loop(total * element, parts)


def _maps(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine, c: Constants
) -> Loop:
    """Maps of single pairs of channels, stored."""
    out = tiles.concrete(kernel.anchor.type)
    taps = prod(tiles.concrete(types[kernel.anchor.operands[1]])[2:])
    parts = prod(out[:-1]) if prod(out) * taps >= PARALLEL_WORK else 1
    return Loop(prod(out) * (c.map_point + taps * c.map_tap), parts)
