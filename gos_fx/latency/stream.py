"""Cycles of kernels without a register tile: the plain schedule, stage by stage.

The plain schedule (``gos_fx.kernels.schedules.stage``) makes one loop over all elements
whose body is a vector, or, under tile and unroll nodes, loops around a tile. LLVM
keeps a body in vectors where TVM could show that it lies in one row of memory;
otherwise it computes an address for every element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

from gos_fx.ir.fusion import Kernel, is_elementwise
from gos_fx.ir.graph import Node
from gos_fx.ir.types import Type, axis_index, channel_axis
from gos_fx.kernels import tiles
from gos_fx.latency.constants import Constants
from gos_fx.targets.target import Machine

# Elements from which the plain schedule is parallel, and its widest vector
# (kernels/schedules/stage.py).
PARALLEL_WORK = 1 << 14
MAX_VECTOR = 64
# Cycles of arithmetic from which LLVM leaves a loop over numbers as it is.
_SIMPLE = 10.0
_MOVES = ("concat", "transpose", "resize", "reshape")


@dataclass(frozen=True)
class Loop:
    """Cycles of one loop, of which threads take equal parts."""

    cycles: float
    parts: int = 1


def arithmetic(node: Node, c: Constants) -> float:
    """Cycles of one vector of an instruction's results, without loads and stores."""
    if node.opcode == "relu":
        return c.simple if node.attr("slope") == 0.0 else 2 * c.simple
    named = {
        "div": c.div,
        "sqrt": c.sqrt,
        "exp": c.exp,
        "sigmoid": c.exp + c.div + c.simple,
        "tanh": c.tanh + c.div,
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


def loops_of(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine, c: Constants
) -> list[Loop]:
    """The loops of a kernel in order of execution."""
    anchor, last = kernel.anchor, kernel.nodes[-1]
    shape = tiles.concrete(last.type)
    source = tiles.concrete(types[anchor.operands[0]])
    steered = bool(kernel.tile or kernel.unroll)
    each = sum(arithmetic(node, c) for node in kernel.nodes)
    loops: list[Loop] = []
    if anchor.opcode == "cross_correlation":
        loops.append(_maps(kernel, types, machine, c))
        source = tiles.concrete(anchor.type)
        if len(kernel.nodes) > 1:
            axis = str(kernel.nodes[1].attrs.get("axis", "ci"))
            loops.append(_reduced(source, axis_index(axis, 5), machine, c))
        return loops
    if anchor.opcode == "softmax":
        at = axis_index(str(anchor.attr("axis")), len(shape))
        loops.append(_reduced(shape, at, machine, c))
        loops.append(_plain(shape, 2, c.exp + c.simple, machine, c, ()))
        loops.append(_reduced(shape, at, machine, c))
        each = c.div
    elif anchor.opcode in tiles.REDUCTIONS and anchor.attrs.get("axis"):
        at = axis_index(str(anchor.attr("axis")), len(source))
        loop = _reduced(source, at, machine, c)
        loops.append(loop)
        rest = kernel.nodes[1:]
        if anchor.opcode in ("sum", "max", "min") and not rest:
            return loops
        each = sum(arithmetic(node, c) for node in rest) + c.simple
    reads = len(kernel.inputs)
    if steered:
        loops.append(_tiled(kernel, types, shape, reads, each, machine, c))
    elif anchor.opcode in _MOVES:
        loops.append(_moved(kernel, shape, source, machine, c))
    else:
        loops.append(
            _plain(shape, reads, each, machine, c, _channels(kernel, types, shape))
        )
    return loops


def _channels(
    kernel: Kernel, types: Mapping[str, Type], shape: Sequence[int]
) -> tuple[int, ...]:
    """Extents behind the channel axis, one for each operand of a number per channel."""
    rank = len(shape)
    if rank < 2:
        return ()
    plane = prod(shape[channel_axis(rank) + 1 :])
    return tuple(plane for name in kernel.inputs if types[name].rank == 1)


def plain_loop(
    shape: Sequence[int], reads: int, each: float, machine: Machine, c: Constants
) -> Loop:
    """An element-wise function that TVM or the plain schedule made of one stage."""
    return _plain(shape, reads, each, machine, c, ())


def reduced_loop(source: tuple[int, ...], machine: Machine, c: Constants) -> Loop:
    """A mean over the last two axes, as TVM makes it: one number after the other."""
    points = prod(source)
    parts = prod(source[:-2]) if points >= PARALLEL_WORK else 1
    return Loop(points * c.reduce_scalar, parts)


def _plain(
    shape: Sequence[int],
    reads: int,
    each: float,
    machine: Machine,
    c: Constants,
    channels: Sequence[int],
) -> Loop:
    total = prod(shape)
    width = vector_width(total, 4 * machine.lanes)
    parts = total // width if total >= PARALLEL_WORK else 1
    vectors = ceil(width / machine.lanes)
    full = reads - len(channels)
    moved = vectors * (c.stream_load * full + c.stream_store + each)
    if width == 1:  # left to LLVM, which makes vectors of what is simple
        if each < _SIMPLE:
            return Loop(total / machine.lanes * (c.stream_loop + moved), parts)
        return Loop(total * (c.stream_loop + c.scalar * each), parts)
    if crosses(shape, width):
        moved = vectors * each + width * (c.lane + c.lane_read * (full - 1))
    for plane in channels:
        moved += c.channel if plane % width == 0 else c.lane_channel * width
    return Loop(total // width * (c.stream_loop + moved), parts)


def _tiled(
    kernel: Kernel,
    types: Mapping[str, Type],
    shape: tuple[int, ...],
    reads: int,
    each: float,
    machine: Machine,
    c: Constants,
) -> Loop:
    """The tile's loops in one iteration of the others."""
    names = tiles.tiled_loops(kernel, types)
    extents = dict(zip(names, shape, strict=True))
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
        body = vectors * (c.stream_load * reads + c.stream_store + each)
        body = inner // size * (c.row + body)
    return Loop(parts * c.block + blocks * body, parts)


def _reduced(source: tuple[int, ...], at: int, machine: Machine, c: Constants) -> Loop:
    """One stage of a reduction over an axis, by vectors of the last axis that stays."""
    points = prod(source)
    spatial = [s for i, s in enumerate(source) if i != at]
    width = vector_width(spatial[-1], 2 * machine.lanes) if len(spatial) > 1 else 1
    contiguous = at != len(source) - 1
    parts = points // source[at] // width if points >= PARALLEL_WORK else 1
    steps = points // width
    if width == 1:
        return Loop(steps * c.reduce_scalar, parts)
    if contiguous:
        step = c.reduce_step + c.reduce_vector * ceil(width / machine.lanes)
    else:
        step = c.reduce_step + c.reduce_strided * width
    return Loop(steps * step + points // source[at] // width * c.reduce_start, parts)


def _moved(
    kernel: Kernel,
    shape: tuple[int, ...],
    source: tuple[int, ...],
    machine: Machine,
    c: Constants,
) -> Loop:
    """Elements that are fetched from where they were."""
    total = prod(shape)
    width = vector_width(total, 4 * machine.lanes)
    parts = total // width if total >= PARALLEL_WORK else 1
    opcode = kernel.anchor.opcode
    inside = shape[-1] % width == 0
    if opcode == "concat":
        element = c.concat
        if axis_index(str(kernel.anchor.attr("axis")), len(shape)) > 1:
            element += c.concat_inner * (len(kernel.anchor.operands) - 1)
    elif opcode == "resize":
        element = c.resize_inside if inside else c.resize
    else:
        element = c.transpose_inside if inside else c.transpose
    return Loop(total * element, parts)


def _maps(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine, c: Constants
) -> Loop:
    """Maps of single pairs of channels, stored."""
    out = tiles.concrete(kernel.anchor.type)
    taps = prod(tiles.concrete(types[kernel.anchor.operands[1]])[2:])
    parts = prod(out[:-1]) if prod(out) * taps >= PARALLEL_WORK else 1
    return Loop(prod(out) * (c.map_point + taps * c.map_tap), parts)


def is_stream(kernel: Kernel) -> bool:
    """Whether all of a kernel is element-wise."""
    return all(is_elementwise(node) for node in kernel.nodes)
