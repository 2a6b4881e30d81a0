"""Cycles and bytes of a loop nest on a machine.

    seconds = max(issue, L1 refill) / (clock * busy cores) + DRAM bytes / DRAM rate

The two parts add up, because in-order cores wait for memory (for the Cortex-A53 the sum
fits published latencies better than the maximum). Every constant of this file is an
assumption until a calibration replaces it; the target's data are in
``gos_fx.targets``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

from gos_fx.kernels.tiles import MAX_BODY
from gos_fx.latency.nest import FLOAT_BYTES, Nest
from gos_fx.targets.target import Machine

# The part of the shorter of two instruction streams (FMAs, loads) that dual issue does
# not hide behind the longer one.
NOT_HIDDEN = 0.25
# A loop iteration's own instructions: increment, compare, branch, one address.
LOOP_CYCLES = 2.0
# Addresses of a tile and clearing of its accumulators, beside one cycle for each.
TILE_CYCLES = 12.0
# The part of L1 that operands of a tile can count on, beside stack and prefetches.
L1_SHARE = 0.75


@dataclass(frozen=True)
class Cost:
    """What one execution takes: cycles of one core, bytes from and to DRAM.

    The cycles can be divided among cores in ``parts`` equal parts.
    """

    cycles: float
    dram_bytes: float
    parts: int = 1

    def seconds(self, machine: Machine, threads: int) -> float:
        """Time on ``threads`` threads, at most one for each core."""
        threads = max(1, min(threads, machine.cores))
        rounds = ceil(self.parts / threads)
        compute = self.cycles * rounds / self.parts / machine.clock_hz
        return compute + self.dram_bytes / machine.dram_bytes_per_s(threads)


def vector_load_cycles(machine: Machine) -> float:
    """One SIMD register from L1."""
    return machine.simd_bits / 8 / machine.load_bytes_per_cycle


def scalar_load_cycles(machine: Machine) -> float:
    """One number from L1 to all lanes: a load instruction, however narrow."""
    return min(1.0, vector_load_cycles(machine))


def overlapped(a: float, b: float) -> float:
    """Cycles of two streams of instructions that are issued side by side."""
    return max(a, b) + NOT_HIDDEN * min(a, b)


def cost_of_nest(nest: Nest, machine: Machine, epilogue_cycles: float) -> Cost:
    """Cost of a nest whose epilogue takes these cycles for each vector of results."""
    tiles = prod(nest.tiles.values())
    issue = tiles * cycles_of_tile(nest, machine, epilogue_cycles)
    # A copy reads and writes every byte through the load path.
    issue += 2 * nest.copied / machine.load_bytes_per_cycle
    refill = traffic(nest, int(L1_SHARE * machine.l1d_bytes))
    refill_cycles = sum(refill.values()) / machine.l2_bytes_per_cycle
    return Cost(
        max(issue, refill_cycles),
        dram_bytes(nest, machine),
        nest.parts(machine.cores),
    )


def accumulators(nest: Nest, machine: Machine) -> int:
    """Vector registers that the register tile takes."""
    wide = ceil(nest.tile[nest.vector] / machine.lanes)
    return wide * prod(s for loop, s in nest.tile.items() if loop != nest.vector)


def cycles_of_tile(nest: Nest, machine: Machine, epilogue_cycles: float) -> float:
    """Cycles of one register tile: all its steps, then the epilogue and the stores."""
    steps = nest.steps * cycles_of_step(nest, machine) + loop_cycles(nest)
    copies = prod(nest.unroll.get(loop, 1) for loop in nest.outputs)
    start = TILE_CYCLES / copies
    return (
        steps
        + start
        + accumulators(nest, machine)
        * (1 + cycles_of_result(nest, machine, epilogue_cycles))
    )


def cycles_of_result(nest: Nest, machine: Machine, epilogue_cycles: float) -> float:
    """Cycles of the epilogue and the store of one vector of results.

    The store is along the last output loop that the tile has. Where the tile does not
    divide it, tails make the compiler store lane by lane; where the vectors lie across
    it, they are transposed, with two shuffles each if four can be done together.
    """
    row = next((x for x in ("wo", "ho") if nest.tile.get(x, 1) > 1), nest.vector)
    load = vector_load_cycles(machine)
    finish = epilogue_cycles + len(nest.late) * load
    by_lane = machine.lanes * scalar_load_cycles(machine)
    if nest.outputs[row] % nest.tile[row]:
        return finish + by_lane
    if not nest.scattered:
        return finish + load
    return finish + (2 + load if row != "co" and nest.tile[row] >= 4 else by_lane)


def cycles_of_step(nest: Nest, machine: Machine) -> float:
    """Cycles of one step of the reduction, loop instructions left out."""
    vectors = accumulators(nest, machine)
    load = vector_load_cycles(machine)
    body = body_of(nest)
    repeats = prod(body.values())
    extents = {**dict.fromkeys(nest.reductions, 1), **nest.tile, **body}
    loads, operands = 0.0, 0
    for stream in nest.reads:
        if stream.moves_with(nest.vector):
            outer = {**extents, **dict.fromkeys(body, 1), nest.vector: 1}
            wide = ceil(nest.tile[nest.vector] / machine.lanes)
            count = wide * stream.elements(outer)
            loads += count * load
            operands += min(count, wide)
        else:  # neighbouring taps of an unrolled body share their inputs
            loads += stream.elements(extents) / repeats * scalar_load_cycles(machine)
            operands += 1
    spilled = max(0, vectors + operands - machine.vector_registers)
    if vectors * repeats > MAX_BODY:  # the tile is then a loop over memory
        spilled = vectors
        loads += LOOP_CYCLES * vectors
    loads += 2 * spilled * load  # stored and loaded again
    arithmetic = max(vectors / machine.fma_per_cycle, machine.fma_latency_cycles)
    return overlapped(arithmetic, loads)


def body_of(nest: Nest) -> dict[str, int]:
    """Taps in the unrolled body: from the innermost loop outwards, up to the first loop
    that is not unrolled completely."""
    body: dict[str, int] = {}
    for loop in reversed(nest.reductions):
        body[loop] = min(nest.unroll.get(loop, 1), nest.reductions[loop])
        if body[loop] < nest.reductions[loop]:
            break
    return body


def loop_cycles(nest: Nest) -> float:
    """Instructions of the reduction loops themselves, for one tile."""
    cycles, trips = 0.0, 1.0
    for loop, extent in nest.reductions.items():
        left = ceil(extent / nest.unroll.get(loop, 1))
        cycles += LOOP_CYCLES * trips * left if left > 1 else 0.0
        trips *= extent
    return cycles


def traffic(nest: Nest, capacity: int) -> dict[str, float]:
    """Bytes of each stream that pass into a cache of this capacity.

    From the register tile outwards: if all that one iteration of a loop touches fits,
    the next iteration finds again what the two have in common, and the loop brings in
    every byte once. If it does not fit, every iteration brings its bytes anew.
    """
    extents = nest.extents(nest.tile)
    bytes_of = {s.name: float(s.bytes(extents)) for s in nest.streams}
    for loop in reversed(nest.outputs):
        fits = sum(s.bytes(extents) for s in nest.streams) <= capacity
        extents[loop] = nest.outputs[loop]
        for s in nest.streams:
            if fits or s is nest.write:
                bytes_of[s.name] = max(bytes_of[s.name], s.bytes(extents))
            else:
                bytes_of[s.name] *= nest.tiles[loop]
    return bytes_of


def dram_bytes(nest: Nest, machine: Machine) -> float:
    """Bytes from and to DRAM.

    Weights always come from there: between two inferences the rest of the network has
    passed through the caches. Maps do not where all of them fit the last cache, since
    the operator before has just written them.
    """
    cache = machine.cache_bytes()
    whole = nest.extents(nest.outputs)
    maps = [s for s in nest.streams if s.role == "map"]
    resident = sum(s.bytes(whole) for s in maps) + nest.copied <= cache
    bytes_of = traffic(nest, cache)
    total = 0.0
    for s in nest.streams:
        if s.role == "map" and resident:
            # Read again only as often as the weights push it out.
            total += max(0.0, bytes_of[s.name] - s.bytes(whole))
        else:
            total += bytes_of[s.name]
    return total + (0 if resident else 2 * nest.copied)


def cost_of_stream(
    elements: Mapping[str, int], machine: Machine, cycles: float, parts: int
) -> Cost:
    """Cost of reading and writing these many elements once, with arithmetic of
    ``cycles``. Maps that fit the last cache together are not counted as DRAM's."""
    size = FLOAT_BYTES * sum(elements.values())
    loads = size / machine.load_bytes_per_cycle
    dram = 0 if size <= machine.cache_bytes() else size
    return Cost(overlapped(cycles, loads), dram, parts)
