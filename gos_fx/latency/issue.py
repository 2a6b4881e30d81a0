"""Cycles that a loop nest takes to issue, as the emulator's issue model counts them.

The forms follow what LLVM makes of the schedules for in-order cores of two issues; the
constants are fitted. Misses are not here: ``gos_fx.latency.lines`` counts the lines
that come from DRAM, and a hit in L2 costs what the target's ``Fit`` says on average.
"""

from __future__ import annotations

from math import ceil, prod, sqrt

from gos_fx.latency.constants import Constants
from gos_fx.latency.nest import FLOAT_BYTES, Copy, Nest
from gos_fx.targets.target import Machine


def vector_words(machine: Machine) -> float:
    """Cycles of loading one SIMD register."""
    return machine.simd_bits / 8 / machine.load_bytes_per_cycle


def cycles_of_copy(copy: Copy, machine: Machine, c: Constants) -> tuple[float, float]:
    """Cycles of filling planes, and of copying into them."""
    lanes = machine.lanes
    if copy.phases > 1:
        elements = copy.planes * copy.rows * copy.columns
        return 0.0, c.phase_element * elements
    if copy.by_element:
        return 0.0, c.pack_element * copy.planes * copy.rows * copy.columns
    rows, columns = copy.inside
    plane = copy.rows * copy.columns
    if copy.zeros:
        fill = c.fill_call if copy.local else 0.0
        fill += c.fill_line * plane * FLOAT_BYTES / machine.line_bytes
    else:
        fill = copy.rows * (c.fill_row + c.fill_vector * ceil(copy.columns / lanes))
    move = rows * (c.copy_row + c.copy_vector * ceil(columns / lanes))
    return copy.planes * fill, copy.planes * (c.copy_plane + move)


def cycles_of_tiles(
    nest: Nest, machine: Machine, epilogue: float, c: Constants, is_parallel: bool
) -> float:
    """Cycles of all register tiles; ``epilogue`` is that of a vector of results."""
    tiles = prod(nest.tiles.values())
    if nest.is_windowed:
        steps = _windows(nest, machine, c, is_parallel)
    else:
        steps = _dense(nest, machine, c)
    return tiles * (steps + _finish(nest, machine, epilogue, c))


def accumulators(nest: Nest, machine: Machine) -> int:
    """Vector registers that the register tile takes."""
    wide = ceil(nest.tile[nest.vector] / machine.lanes)
    return wide * prod(s for loop, s in nest.tile.items() if loop != nest.vector)


def _dense(nest: Nest, machine: Machine, c: Constants) -> float:
    """Steps of one tile: weights by vectors, inputs by numbers."""
    lanes = machine.lanes
    size = nest.tile[nest.vector]
    whole = ceil(size / lanes)
    vectors = accumulators(nest, machine)
    rows = vectors // whole
    inputs = _inputs(nest)
    words = vector_words(machine)
    chain = c.chain * machine.fma_latency_cycles
    if size == 1:  # numbers, which LLVM may gather to vectors
        step, spilled = max(c.number * rows, chain + c.number), 0.0
    else:
        issued = vectors * (c.half if size <= lanes // 2 else 1.0)
        arithmetic = max(issued / machine.fma_per_cycle, chain)
        loads = c.weight_load * words * whole + c.input_load * inputs
        # Loads wait for what was issued before them, the more the finer both are mixed.
        step = arithmetic + loads + c.mixed * sqrt(arithmetic * loads)
        live = vectors + c.live_weight * whole + c.live_input * rows
        spilled = max(0.0, live - c.spill_from * machine.vector_registers)
        spilled = min(float(vectors), spilled)
    step += (c.spill + c.spill_wide * (whole > 1)) * spilled
    uneven = size & (size - 1) > 0
    bare = all(nest.unroll.get(loop, 1) == 1 for loop in nest.reductions)
    if size > 1 and bare and _tailed_twice(nest):
        # The tails read accumulators one number at a time, and without taps that are
        # unrolled LLVM takes them apart in the loop already.
        step += (c.tails + c.shuffle * uneven) * size * rows
    elif size > lanes and size % lanes:
        step += c.uneven * size * rows
    if nest.cut:
        step += c.cut_load * rows
    return nest.steps * step + nest.reductions["ci"] * c.step_ci


def _tailed_twice(nest: Nest) -> bool:
    """Whether tiles reach over the end along the vectors and along another loop."""
    cut = {loop for loop, size in nest.outputs.items() if size % nest.tile[loop]}
    return nest.vector in cut and len(cut) > 1


def _inputs(nest: Nest) -> float:
    """Different inputs that a step reads, where taps in a body share them."""
    tile = nest.tile
    if "ho" not in tile or "kw" not in nest.reductions:
        return float(prod(s for x, s in tile.items() if x != nest.vector))
    (x, *_) = nest.reads
    if any(step > 1 for axis in x.axes for loop, step, _ in axis.loops if loop == "wo"):
        return float(tile["ho"] * tile["wo"])
    extents = {**dict.fromkeys(nest.reductions, 1), **tile, nest.vector: 1}
    taps = nest.reductions["kw"] * nest.reductions["kh"]
    extents |= {"kw": nest.reductions["kw"], "kh": nest.reductions["kh"]}
    return min(x.elements(extents) / taps, float(tile["ho"] * tile["wo"]))


def _windows(nest: Nest, machine: Machine, c: Constants, is_parallel: bool) -> float:
    """Steps of one tile of windows: inputs by vectors, each weight to all lanes."""
    lanes = machine.lanes
    size = nest.tile[nest.vector]
    vectors = accumulators(nest, machine)
    words = vector_words(machine)
    if size == 1:
        # Within a parallel loop LLVM does not know that copy and result are apart.
        step = (c.window_number + (c.window_aliased if is_parallel else 0.0)) * vectors
    else:
        part = c.window_half if size <= lanes // 2 else 1.0
        step = part * vectors * (1.0 / machine.fma_per_cycle + c.window_load * words)
    spilled = max(0.0, vectors - c.window_spill_from * machine.vector_registers)
    step += c.window_tap * nest.tile.get("co", 1) + c.window_spill * spilled
    return nest.steps * step


def _finish(nest: Nest, machine: Machine, epilogue: float, c: Constants) -> float:
    """Clearing of a tile, its epilogue, its stores, its addresses."""
    lanes = machine.lanes
    vectors = accumulators(nest, machine)
    elements = prod(nest.tile.values())
    row = nest.stored
    width = nest.tile[row]
    results = elements // width * ceil(width / lanes)
    load = vector_words(machine)
    if nest.is_tailed:
        tail = c.window_tail if nest.is_windowed else c.store_tail
        store = (tail + c.epilogue_tail * epilogue) * elements
        store += c.late * len(nest.late) * elements
    else:
        store = (epilogue + c.late * load * len(nest.late)) * results
        if nest.scattered and width > 1:
            store += (c.store_row if row == "wo" else c.store_lane) * elements
        elif nest.scattered:
            store += c.store_lane * elements
        else:
            store += (c.window_store if nest.is_windowed else c.store_vector) * results
    if nest.is_counted:
        store += c.average * elements
    first = c.window_tile if nest.is_windowed else c.tile
    return first + c.clear * vectors + store
