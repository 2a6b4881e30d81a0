"""How the code generator cuts the loops of a kernel: its own plans, asked for anew."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels import default_tiles, tiles
from gos_fx.kernels.dense_tiles import (
    DensePlan,
    DenseSizes,
    dense_plan,
    dense_sizes,
    has_microkernel,
)
from gos_fx.kernels.layout import Layout, Seen
from gos_fx.kernels.microkernels import STEPS
from gos_fx.kernels.window_tiles import WindowPlan, window_plan
from gos_fx.kernels.winograd_tiles import WinogradPlan, winograd_plan
from gos_fx.targets.target import Machine


@dataclass(frozen=True)
class Copy:
    """An operand that is copied to where whole blocks can read it.

    Attributes:
        source: the operand.
        count: copies that are made, each of ``pixels`` pixels of ``channels`` numbers.
        inside: made in the parallel loop, piece by piece, else before it.
        scattered: the numbers do not lie side by side in the operand.
    """

    source: str
    count: int
    pixels: int
    channels: int
    inside: bool
    scattered: bool = False

    @property
    def elements(self) -> int:
        return self.count * self.pixels * self.channels


@dataclass(frozen=True)
class DenseForm:
    """A dense kernel as it is compiled.

    Attributes:
        sizes, plan: those of the code generator; one row where rows do not matter.
        calls: of a microkernel for each register block; 0: LLVM's own loops.
        run: steps of the reduction in a call.
        unroll: steps in a turn of LLVM's innermost loop.
        copies: of the operands.
    """

    sizes: DenseSizes
    plan: DensePlan
    calls: int
    run: int
    unroll: int
    copies: tuple[Copy, ...]

    @property
    def channel_blocks(self) -> int:
        per_group = self.sizes.outputs // self.sizes.groups
        return self.sizes.groups * ceil(per_group / self.plan.co)

    @property
    def chunks(self) -> int:
        return self.sizes.batch * ceil(self.plan.outer_blocks / self.plan.chunk)

    @property
    def blocks(self) -> int:
        """Register blocks of the kernel."""
        pixels = self.sizes.batch * self.plan.row_blocks * self.plan.column_blocks
        return pixels * self.channel_blocks

    @property
    def parts(self) -> int:
        """Equal parts that threads take."""
        return self.chunks * (self.channel_blocks if self.plan.by_channels else 1)


Planned = DenseForm | WindowPlan | WinogradPlan | None


def planned(
    kernel: Kernel,
    types: Mapping[str, Type],
    machine: Machine,
    scattered: frozenset[str] = frozenset(),
) -> Planned:
    """The plan of a convolution, pool or matrix product; None for all other kernels.

    Args:
        machine: with as many cores as the code makes use of.
        scattered: values whose channels do not lie side by side.
    """
    inputs = tuple(types[name] for name in kernel.inputs)
    ends = frozenset(scattered & {*kernel.inputs, kernel.output})
    return _planned(kernel, inputs, machine, ends)


@functools.lru_cache(maxsize=8192)
def _planned(
    kernel: Kernel,
    inputs: tuple[Type, ...],
    machine: Machine,
    scattered: frozenset[str],
) -> Planned:
    anchor, types = kernel.anchor, dict(zip(kernel.inputs, inputs, strict=True))
    dense = tiles.is_dense(kernel, types)
    if not (dense or anchor.opcode == "matmul" or tiles.is_windowed(kernel, types)):
        return None
    if dense and not scattered & {anchor.operands[0], kernel.output}:
        found: WinogradPlan | None = winograd_plan(kernel, types, machine)
        if found is not None:
            return found
    tile = default_tiles.default_tile(kernel, types, machine)
    tile = tiles.clamp(tile, tiles.extents(kernel, types))
    if dense or anchor.opcode == "matmul":
        unroll = default_tiles.default_unroll(kernel, types, tile, machine)
        return _dense(kernel, types, tile, unroll, machine, scattered)
    return window_plan(kernel, types, tile, machine, scattered=bool(scattered))


def scattered_values(
    layouts: Mapping[str, Layout], types: Mapping[str, Type]
) -> frozenset[str]:
    """Values whose channels do not lie side by side; what moved away is none."""
    return frozenset(
        name
        for name, layout in layouts.items()
        if isinstance(layout, Seen)
        or (layout.is_plain and name in types and types[name].rank == 4)
    )


def forget() -> None:
    """Plan everything anew, as tests and benchmarks want it."""
    _planned.cache_clear()


def _dense(
    kernel: Kernel,
    types: Mapping[str, Type],
    tile: Mapping[str, int],
    unroll: Mapping[str, int],
    machine: Machine,
    scattered: frozenset[str],
) -> DenseForm:
    sizes = dense_sizes(kernel, types)
    if kernel.anchor.opcode == "matmul":
        row, column = tuple(tile)[-2:]
        block = {"ho": 1, "wo": tile[row], "co": tile[column]}
    else:
        block = {loop: tile[loop] for loop in ("ho", "wo", "co")}
    if sizes.is_flat and sizes.rows > 1:
        wide = min(block["ho"] * block["wo"], sizes.rows * sizes.columns)
        block = {"ho": 1, "wo": wide, "co": block["co"]}
        sizes = replace(sizes, rows=1, columns=sizes.rows * sizes.columns)
    plan = dense_plan(sizes, block, machine)
    dilation = kernel.anchor.attrs.get("dilation", (1, 1))
    is_steered = any(loop in tiles.REDUCTION_LOOPS for loop, _ in kernel.unroll)
    merged = (
        has_microkernel(plan, machine)
        and not is_steered
        and sizes.groups == 1
        and (dilation[1] == 1 or sizes.taps[1] == 1)
    )
    steps = sizes.inputs * sizes.taps[1]
    form = DenseForm(
        sizes,
        plan,
        calls=sizes.taps[0] if merged else 0,
        run=max(STEPS, steps) if merged else steps,
        unroll=unroll.get("ci", 1),
        copies=(),
    )
    made = _product_copies if kernel.anchor.opcode == "matmul" else _grid
    return replace(form, copies=made(kernel, types, form, scattered))


def _grid(
    kernel: Kernel,
    types: Mapping[str, Type],
    form: DenseForm,
    scattered: frozenset[str],
) -> tuple[Copy, ...]:
    """The padded image, where whole blocks cannot read the image itself."""
    sizes, plan, attributes = form.sizes, form.plan, kernel.anchor.attrs
    source = kernel.anchor.operands[0]
    _, channels, height, width = tiles.concrete(types[source])
    if sizes.rows == 1 and sizes.is_flat:
        height, width = 1, height * width
    dilation = attributes.get("dilation", (1, 1))
    top, _, left, _ = attributes.get("padding", (0, 0, 0, 0))
    reach = [(t - 1) * d + 1 for t, d in zip(sizes.taps, dilation, strict=True)]
    rows = (plan.row_blocks * plan.ho - 1) * sizes.stride[0] + reach[0]
    columns = (plan.column_blocks * plan.wo - 1) * sizes.stride[1] + reach[1]
    # A microkernel reads a few numbers behind the last pixel.
    behind = 0
    if form.calls:
        behind = ceil((form.run - sizes.inputs * sizes.taps[1]) / channels)
    columns += behind
    inside = (top, left) == (0, 0) and rows <= height and columns <= width
    if inside and source not in scattered:
        return ()
    count = sizes.batch
    if not plan.by_channels:  # a piece for each chunk
        count = form.chunks
        if plan.rows == 1:
            columns = (plan.chunk * plan.wo - 1) * sizes.stride[1] + reach[1] + behind
        else:
            rows = (plan.chunk * plan.ho - 1) * sizes.stride[0] + reach[0]
    return (
        Copy(
            source,
            count,
            rows * columns,
            channels,
            not plan.by_channels,
            source in scattered,
        ),
    )


def _product_copies(
    kernel: Kernel,
    types: Mapping[str, Type],
    form: DenseForm,
    scattered: frozenset[str],
) -> tuple[Copy, ...]:
    """Rows rounded up; a right operand that is a map, packed by columns."""
    sizes, plan = form.sizes, form.plan
    left, right = kernel.anchor.operands[:2]
    steps = form.run
    whole = plan.column_blocks * plan.wo
    inside = not plan.by_channels
    copies = []
    if (whole, steps) != (sizes.columns, sizes.inputs) or left in scattered:
        count = form.chunks if inside else sizes.batch
        rows = plan.chunk * plan.wo if inside else whole
        copies.append(Copy(left, count, rows, steps, inside, left in scattered))
    if types[right].role == "map":
        count = form.chunks if inside else sizes.batch
        pixels = steps * form.channel_blocks
        copies.append(Copy(right, count, pixels, plan.co, inside, right in scattered))
    return tuple(copies)
