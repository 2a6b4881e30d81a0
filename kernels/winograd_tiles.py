"""Winograd's convolutions F(m x m, 3x3) as plain arithmetic: matrices, loops, cost.

A tile of ``m x m`` outputs costs ``(m + 2)^2`` products for each pair of channels in
place of ``9 m^2``. Each of these points is a matrix product [tiles, ci] x [ci, co] of
its own, with weights that are ``(m + 2)^2 / 9`` times as large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, gcd

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.dense_tiles import (
    DenseSizes,
    block_cycles,
    default_block,
    dense_plan,
    dense_sizes,
    largest_block,
    traffic,
)
from gos_fx.kernels.microkernels import STEPS
from gos_fx.kernels.tiles import Core, lanes
from gos_fx.kernels.winograd_form import FORMS, TAPS, Form

# Share of L2 that holds what is used again.
_ROOM = 0.8
# A form is taken if it is faster than those with smaller weights by this factor.
_GAIN = {2: 0.95, 4: 0.88}
# Multiply-adds of the direct form below which the calls take the time.
_LEAST_WORK = 1 << 20
# Vectors of output channels in a register block, and blocks in a group.
_WIDTHS = (1, 2, 3, 4)
_GROUPS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class WinogradPlan:
    """How the loops of a Winograd convolution are cut.

    Tiles of all images count through, and are done in chunks: first the transform of
    the inputs, then the products and the transform of the outputs, for one group of
    output channels after the other.

    Attributes:
        form: in rows and in columns.
        batch, rows, columns: of the output.
        inputs, outputs: channels.
        before: rows above and columns left of the image that are read as zero.
        chunk: tiles that are done at once; the last chunks overlap.
        by_chunks: threads do chunks of their own, else all work on the same one, the
            groups divided among them.
        block: output channels that all chunks are done for before the next ones, so
            that their weights stay in the cache; the inputs are transformed once for
            each block.
        group: of the block, output channels that are summed before their transform. One
            group for all, if threads do not do chunks of their own, divides its points
            among them.
        pixels, co: register block of the products: tiles and output channels. ``group``
            is a multiple of ``co`` and ``block`` of ``group``.
    """

    form: Form
    batch: int
    rows: int
    columns: int
    inputs: int
    outputs: int
    before: tuple[int, int]
    chunk: int
    by_chunks: bool
    block: int
    group: int
    pixels: int
    co: int

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles of an image in rows and columns."""
        m = self.form.outputs
        return ceil(self.rows / m), ceil(self.columns / m)

    @property
    def tiles(self) -> int:
        return self.batch * self.grid[0] * self.grid[1]

    @property
    def chunks(self) -> int:
        return ceil(self.tiles / self.chunk)

    @property
    def groups(self) -> int:
        return ceil(self.outputs / self.group)

    @property
    def points(self) -> int:
        """Of the plane: so many matrices are multiplied."""
        return self.form.size**2

    @property
    def weight_bytes(self) -> int:
        return 4 * self.points * self.inputs * self.groups * self.group


def winograd_plan(
    kernel: Kernel, types: Mapping[str, Type], machine: Core
) -> WinogradPlan | None:
    """The plan for a dense convolution, None where the direct form is as good.

    That is so for other kernels, strides, dilations and types, where there is little to
    do, and where the graph asks for a tile.
    """
    sizes = dense_sizes(kernel, types)
    attributes = kernel.anchor.attrs
    is_plain = attributes.get("dilation", (1, 1)) == (1, 1) and sizes.stride == (1, 1)
    if sizes.taps != (TAPS, TAPS) or not is_plain or sizes.groups > 1 or kernel.tile:
        return None
    if any(types[name].dtype != "float32" for name in kernel.anchor.operands):
        return None
    if sizes.inputs < STEPS or sizes.work < _LEAST_WORK:
        return None
    top, _, left, _ = attributes["padding"]
    return _best(sizes, (top, left), machine)


@lru_cache(maxsize=1024)
def _best(
    sizes: DenseSizes, before: tuple[int, int], machine: Core
) -> WinogradPlan | None:
    least, best = direct_seconds(sizes, machine), None
    for m, form in FORMS.items():
        if sizes.inputs > form.most_inputs:
            continue
        plans = list(_plans(form, sizes, before, machine))
        time, i = min((seconds(plan, machine), i) for i, plan in enumerate(plans))
        if time < _GAIN[m] * least:
            least, best = time, plans[i]
    return best


def direct_seconds(sizes: DenseSizes, machine: Core) -> float:
    """Time of the direct form by the same model."""
    block = default_block(sizes, {}, machine)
    cycles = block_cycles(sizes, block, machine) / machine.cores
    behind = traffic(sizes, dense_plan(sizes, block, machine), machine)
    waiting = _waiting(behind, sizes.weight_bytes, machine)
    return cycles / machine.clock_hz + waiting


def seconds(plan: WinogradPlan, machine: Core) -> float:
    """Time of a plan: cycles of the busiest thread, and what does not stay in L2."""
    waiting = _waiting(plan_traffic(plan, machine), plan.weight_bytes, machine)
    return plan_cycles(plan, machine) / machine.clock_hz + waiting


def _waiting(traffic: float, weights: float, machine: Core) -> float:
    """Seconds for bytes that pass between L2 and what is behind it, weights included.

    A third cache holds the maps of a network, but not its weights until they are needed
    again.
    """
    memory = machine.dram_bytes_per_s(machine.cores)
    if machine.l3_bytes is None:
        return traffic / memory
    rate = machine.cores * machine.clock_hz * machine.l2_bytes_per_cycle / 2
    return traffic / rate + weights / memory


def _plans(
    form: Form, sizes: DenseSizes, before: tuple[int, int], machine: Core
) -> Iterator[WinogradPlan]:
    whole = WinogradPlan(
        form=form,
        batch=sizes.batch,
        rows=sizes.rows,
        columns=sizes.columns,
        inputs=sizes.inputs,
        outputs=sizes.outputs,
        before=before,
        chunk=1,
        by_chunks=False,
        block=1,
        group=1,
        pixels=1,
        co=1,
    )
    for chunk in _chunks(whole.tiles):
        pixels, co = _register_block(form, chunk, sizes.inputs, sizes.outputs, machine)
        blocks = ceil(sizes.outputs / co)
        plan = replace(whole, chunk=chunk, pixels=pixels, co=co)
        groups = [co * count for count in _GROUPS if count < blocks]
        yield replace(plan, group=co * blocks, block=co * blocks)
        for group in groups:
            every = ceil(sizes.outputs / group) * group
            yield replace(plan, group=group, block=every)
            for share in (1, 2, 4, 8):
                block = ceil(every / group / share) * group
                yield replace(plan, group=group, block=block, by_chunks=True)


def _chunks(tiles: int) -> list[int]:
    """Sizes that divide the tiles nearly evenly, some of those that hardly differ."""
    found: list[int] = []
    for size in sorted({ceil(tiles / count) for count in range(1, tiles + 1)}):
        if size <= 32 or size >= 1.1 * found[-1] or size == tiles:
            found.append(size)
    return found


@lru_cache(maxsize=4096)
def _register_block(
    form: Form, chunk: int, inputs: int, outputs: int, machine: Core
) -> tuple[int, int]:
    """Tiles and output channels of fewest cycles."""
    sizes = DenseSizes(form.size**2, 1, chunk, outputs, inputs)
    found = []
    for vectors in _WIDTHS:
        co = vectors * lanes(machine)
        for pixels in range(1, min(chunk, largest_block(vectors, machine)) + 1):
            block = {"ho": 1, "wo": pixels, "co": co}
            found.append((block_cycles(sizes, block, machine), pixels, co))
    return min(found)[1:]


def plan_cycles(plan: WinogradPlan, machine: Core) -> float:
    """Of the busiest thread, with all data in the first cache."""
    form, cores = plan.form, machine.cores
    block = {"ho": 1, "wo": plan.pixels, "co": plan.co}
    matrix = DenseSizes(1, 1, plan.chunk, plan.outputs, plan.inputs)
    product = plan.points * block_cycles(matrix, block, machine)
    word = machine.simd_bits / 8 / machine.load_bytes_per_cycle
    m, size = form.outputs, form.size
    # A large tile does not fit the registers between its rows and columns.
    kept = 1 if m == 2 else 2
    inputs = 2 * size * form.input_operations / machine.fma_per_cycle
    inputs += 2 * kept * size**2 * word
    outputs = (size + m) * form.output_operations / machine.fma_per_cycle
    outputs += (size**2 + m**2) * word + 3 * m**2
    inputs *= plan.chunk * plan.inputs / gcd(plan.inputs, lanes(machine))
    outputs *= plan.chunk * plan.outputs / gcd(plan.outputs, lanes(machine))
    if plan.by_chunks:
        passes = ceil(plan.groups / (plan.block // plan.group))
        one = passes * inputs + product + outputs
        return ceil(plan.chunks / cores) * one
    parts = plan.points if plan.groups == 1 else plan.groups
    busy = ceil(parts / cores) / parts
    rest = ceil(plan.chunk / cores) / plan.chunk
    if plan.groups > 1:
        return plan.chunks * (rest * inputs + busy * (product + outputs))
    return plan.chunks * (rest * (inputs + outputs) + busy * product)


def plan_traffic(plan: WinogradPlan, machine: Core) -> float:
    """Bytes that come from behind L2 or go there."""
    form, cores = plan.form, machine.cores
    room = _ROOM * machine.l2_bytes
    sharing = cores if machine.l2_shared else 1
    weights = plan.weight_bytes
    transformed = 4 * plan.points * plan.chunk * plan.inputs
    products = 4 * plan.points * plan.chunk * plan.group
    piece = weights / plan.groups
    image = 4 * plan.batch * plan.rows * plan.columns
    # Rows are read again by the tiles below them.
    inputs = image * plan.inputs * form.size / form.outputs
    outputs = 2 * image * plan.outputs
    if plan.by_chunks:
        passes = ceil(plan.groups / (plan.block // plan.group))
        total = passes * inputs + outputs
        # Between two uses of a weight passes all that a chunk reads and writes.
        patch = 4 * plan.chunk * form.outputs * form.size * plan.inputs
        held = sharing * (transformed + products + patch)
        if weights / passes + held <= room:
            return total + weights
        total += weights * plan.chunks
        if sharing * (transformed + products + piece) > room:
            total += plan.chunks * plan.groups * (transformed + 3 * products)
        return total
    total = inputs + outputs + plan.chunks * weights
    if plan.groups == 1:  # written, fetched for that, and read
        if transformed + products + sharing * piece / plan.points > room:
            total += 3 * plan.chunks * (transformed + products)
        return total
    if transformed + sharing * (products + piece) > room:
        rounds = ceil(plan.groups / cores)
        total += plan.chunks * (2 + rounds) * transformed
        total += 3 * plan.chunks * plan.groups * products
    return total
