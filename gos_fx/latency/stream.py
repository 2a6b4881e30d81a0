"""Kernels without a register tile: element-wise chains, what moves, aggregations.

Rows along the axis that is contiguous in the result are done in vectors, four side by
side, the rest of a row in smaller ones; where all operands lie as the result does, all
of it is one row. Under tile and unroll nodes the plain schedule
(``gos_fx.kernels.schedules.stage``) makes loops around a tile instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

from gos_fx.ir.fusion import Kernel, is_elementwise
from gos_fx.ir.graph import Node
from gos_fx.ir.types import Type, axis_index
from gos_fx.kernels import tiles
from gos_fx.kernels.layout import inside, stored_shape
from gos_fx.latency.constants import Constants
from gos_fx.latency.work import FLOAT_BYTES, Loop, Stage, Sweep, Work
from gos_fx.targets.target import Machine

# Elements from which a kernel is parallel, and vectors side by side
# (kernels/schedules/pointwise.py).
PARALLEL_WORK = 1 << 14
VECTORS = 4
# The widest vector under tile nodes (kernels/schedules/stage.py).
MAX_VECTOR = 64
# Anchors that only move numbers.
_MOVES = (
    *("concat", "transpose", "resize", "reshape", "move", "slice", "expand", "pad"),
    *("gather", "flip", "cast", "zeros", "identity", "surround"),
)
# Of those, the ones that leave neighbouring channels side by side.
_STRAIGHT = ("concat", "resize", "pad", "surround", "expand")
_NORMS = ("softmax", "layer_norm")


def is_stream(kernel: Kernel) -> bool:
    """Whether the kernel is one of those that are made in vectors here."""
    anchor = kernel.anchor
    if anchor.type.is_bundle:
        return False
    known = (*_MOVES, *_NORMS, *tiles.REDUCTIONS, "cross_correlation")
    return is_elementwise(anchor) or anchor.opcode in known


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
        "reciprocal": c.div,
    }
    if node.opcode in named:
        return named[node.opcode]
    if node.opcode in _MOVES:
        return 0.0
    return c.simple * max(1, len(node.operands) - 1)


def stream_work(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine, c: Constants
) -> Work:
    """Its loops and what it reads and writes."""
    per = machine.line_bytes / FLOAT_BYTES
    sizes = {x: prod(tiles.concrete(types[x])) / per for x in kernel.inputs}
    out = prod(tiles.concrete(kernel.nodes[-1].type)) / per
    inputs = [Sweep(x, size) for x, size in sizes.items()]
    stages: list[Stage] = [
        [Sweep(x, sizes[x], True) for x in sizes if types[x].role == "map"]
    ]
    if kernel.anchor.opcode == "softmax" and kernel.tile:
        stages += [inputs, [*inputs, Sweep("exp", out, True)], [Sweep("exp", out)]]
        inputs = [Sweep("exp", out)]
    stages.append([*inputs, Sweep(kernel.output, out, True)])
    loops = tuple(_Stream(kernel, types, machine, c).loops())
    return Work(loops, tuple(stages))


@dataclass(frozen=True)
class _Stream:
    kernel: Kernel
    types: Mapping[str, Type]
    machine: Machine
    c: Constants

    def loops(self) -> list[Loop]:
        """The loops of the kernel in order of execution."""
        anchor = self.kernel.anchor
        of = self.types[anchor.operands[0]]
        is_steered = bool(self.kernel.tile or self.kernel.unroll)
        if anchor.opcode == "cross_correlation":
            return [self._maps()]
        if anchor.opcode in _NORMS:
            axis = anchor.attrs.get("axis")
            at = of.rank - 1 if axis is None else axis_index(str(axis), of.rank)
            if is_steered or inside(of).order[-1] != at:
                return self._by_stages(of, at)
            return [self._normalised(of)]
        if anchor.opcode in tiles.REDUCTIONS and anchor.attrs.get("axis"):
            at = axis_index(str(anchor.attr("axis")), of.rank)
            if is_steered or anchor.opcode == "weighted_mean":
                return [self._stage(of, at), self._tiled(self._after())]
            return [self._reduced(of, at)]
        each = sum(arithmetic(node, self.c) for node in self.kernel.nodes)
        return [self._tiled(each) if is_steered else self._pointwise(each)]

    def _after(self) -> float:
        """Cycles of a vector behind the anchor."""
        return sum(arithmetic(node, self.c) for node in self.kernel.nodes[1:])

    def _row(self, extent: int, vector: float, widest: int = VECTORS) -> float:
        """A row in vectors; ``vector`` is what each register of them takes."""
        lanes, first, found = self.machine.lanes, 0, 0.0
        width = 1 << ((widest * lanes).bit_length() - 1)
        while first < extent:
            if count := (extent - first) // width:
                turns = count * self.c.stream_loop if count > 1 else 0.0
                found += turns + count * ceil(width / lanes) * vector
                first += count * width
            width //= 2
        return found

    def _pointwise(self, each: float) -> Loop:
        c, of = self.c, self.kernel.nodes[-1].type
        shape = stored_shape(of)
        total = prod(shape)
        anchor = self.kernel.anchor
        parts = prod(shape[:-1])
        reads = len(self.kernel.inputs)
        if anchor.opcode == "concat":
            at = axis_index(str(anchor.attr("axis")), of.rank)
            if inside(of).order[-1] == at:
                each += c.stream_load + c.stream_store
                sizes = [stored_shape(self.types[x])[-1] for x in anchor.operands]
                row = c.row + sum(self._row(size, each) for size in sizes)
                return Loop(parts * row, parts if total >= PARALLEL_WORK else 1)
            reads = 1 + reads - len(anchor.operands)
        channels = sum(self.types[x].rank == 1 for x in self.kernel.inputs)
        channels = channels if of.rank > 1 else 0
        vector = c.stream_load * (reads - channels) + c.stream_store + each
        widest = VECTORS
        if anchor.opcode in _MOVES and anchor.opcode != "concat":
            widest = 1
        if anchor.opcode in _MOVES and not self._is_straight():
            element = c.gather if anchor.opcode == "transpose" else c.move
            vector += element * self.machine.lanes
        if self._is_flat():
            parts = total // (VECTORS * self.machine.lanes)
            cycles = self._row(total, vector)
        else:
            cycles = parts * (c.row + self._row(shape[-1], vector, widest))
        return Loop(cycles, max(1, parts) if total >= PARALLEL_WORK else 1)

    def _is_flat(self) -> bool:
        """Whether all operands lie as the result does and nothing moves."""
        shape = self.kernel.nodes[-1].type.shape
        return all(is_elementwise(node) for node in self.kernel.nodes) and all(
            self.types[name].shape == shape for name in self.kernel.inputs
        )

    def _is_straight(self) -> bool:
        """Whether numbers side by side in the result are so in the operand."""
        anchor = self.kernel.anchor
        of, source = anchor.type, self.types[anchor.operands[0]]
        if anchor.opcode == "transpose" and of.rank == source.rank:
            last = inside(of).order[-1]
            return bool(anchor.attr("axes")[last] == inside(source).order[-1])
        return anchor.opcode in _STRAIGHT

    def _reduced(self, of: Type, at: int) -> Loop:
        """An aggregation over one axis, which disappears."""
        c, lanes = self.c, self.machine.lanes
        extent = tiles.concrete(of)[at]
        results = prod(tiles.concrete(of)) // extent
        last, after = inside(of).order[-1], self._after() + c.stream_store
        step = c.stream_load + c.simple
        if last == at:
            wide = min(VECTORS * lanes, 1 << (extent.bit_length() - 1))
            fold = c.fold * wide.bit_length()
            cycles = results * (c.row + self._row(extent, step) + fold + after)
            parts = results
        else:
            left = self.kernel.anchor.type
            stays = [i for i in range(of.rank) if i != at or left.rank == of.rank]
            beside = stays[inside(left).order[-1]]
            if beside != last:
                step += c.gather * lanes
            inner = tiles.concrete(of)[beside]
            parts = results // inner
            groups = ceil(inner / (VECTORS * lanes))
            each = extent * (self._row(inner, step) + c.stream_loop * groups)
            cycles = parts * (c.row + each + self._row(inner, after))
        busy = parts if parts > 1 and results * extent >= PARALLEL_WORK else 1
        return Loop(cycles, busy)

    def _normalised(self, of: Type) -> Loop:
        """Softmax or layer norm, in three passes over each row."""
        c, shape = self.c, stored_shape(of)
        rows, extent = prod(shape[:-1]), shape[-1]
        wide = min(VECTORS * self.machine.lanes, 1 << (extent.bit_length() - 1))
        fold = 2 * c.fold * wide.bit_length() + c.div
        if self.kernel.anchor.opcode == "softmax":
            middle = 2 * c.stream_load + c.exp + 2 * c.simple + c.stream_store
            last = c.stream_load + c.simple + c.stream_store
        else:
            gains = len(self.kernel.anchor.operands) - 1
            middle = c.stream_load + 3 * c.simple
            last = (1 + gains) * c.stream_load + (2 + gains) * c.simple + c.stream_store
            fold += c.sqrt
        first = c.stream_load + c.simple
        passes = (first, middle, last + self._after())
        each = c.row + fold + sum(self._row(extent, vector) for vector in passes)
        is_parallel = rows > 1 and rows * extent >= PARALLEL_WORK
        return Loop(rows * each, rows if is_parallel else 1)

    def _by_stages(self, of: Type, at: int) -> list[Loop]:
        """Softmax as the plain schedule has it: each stage over the whole map."""
        power = prod(tiles.concrete(of)) * self.c.exp / self.machine.lanes
        middle = Loop(power, self._stage(of, at).parts)
        after = self.c.div + self._after()
        return [self._stage(of, at), middle, self._stage(of, at), self._tiled(after)]

    def _stage(self, of: Type, at: int) -> Loop:
        """One stage of a reduction, by vectors of the last axis that stays."""
        c, source = self.c, tiles.concrete(of)
        points = prod(source)
        stays = [i for i in range(of.rank) if i != at]
        width = 1
        if len(stays) > 1:
            width = _width(source[stays[-1]], 2 * self.machine.lanes)
        parts = points // source[at] // width if points >= PARALLEL_WORK else 1
        return Loop(points * c.reduce_lane, parts)

    def _tiled(self, each: float) -> Loop:
        """The tile's loops in one iteration of the others, in the order of memory."""
        c, kernel, lanes = self.c, self.kernel, self.machine.lanes
        of = kernel.nodes[-1].type
        names = inside(of).stored(tiles.axes(of.rank))
        extents = dict(zip(names, stored_shape(of), strict=True))
        tile = dict.fromkeys(names, 1) | {
            k: v
            for k, v in tiles.clamp(dict(kernel.tile), extents).items()
            if k in names
        }
        trips = {loop: ceil(extents[loop] / tile[loop]) for loop in names}
        parts = prod(trips.values())
        for loop, factor in kernel.unroll:
            if loop in trips:
                parts //= _width(trips[loop], factor)
        inner, blocks = prod(tile.values()), prod(trips.values())
        size, last = (tile[names[-1]], extents[names[-1]]) if names else (1, 1)
        if inner == 1 and each < c.exp:  # LLVM makes vectors of the outer loops
            vector = c.stream_load * len(kernel.inputs) + c.stream_store + each
            return Loop(self._row(blocks, vector), parts)
        if size > MAX_VECTOR or last % size or size == 1:
            body = inner * c.scalar * each
        else:
            moved = c.stream_load * len(kernel.inputs) + c.stream_store
            body = inner // size * (c.tile_row + ceil(size / lanes) * (moved + each))
        return Loop(parts * c.tile_block + blocks * body, parts)

    def _maps(self) -> Loop:
        """Maps of single pairs of channels, stored."""
        anchor, c = self.kernel.anchor, self.c
        out = tiles.concrete(anchor.type)
        taps = prod(tiles.concrete(self.types[anchor.operands[1]])[2:])
        parts = prod(out[:-1]) if prod(out) * taps >= PARALLEL_WORK else 1
        return Loop(prod(out) * (c.map_point + taps * c.map_tap), parts)


def _width(extent: int, widest: int) -> int:
    """The widest divisor of an extent that the plain schedule's vector may have."""
    limit = max(1, min(extent, widest, MAX_VECTOR))
    return max(w for w in range(1, limit + 1) if extent % w == 0)
