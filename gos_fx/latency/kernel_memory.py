"""What a kernel has in memory beside its maps: packed weights, and scratch memory.

Both follow from the plans of the code generator, at the sizes that it takes by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

import numpy as np

from gos_fx.ir.decompose import decompose
from gos_fx.ir.fusion import Kernel, partition
from gos_fx.ir.types import Type, axis_index
from gos_fx.kernels import tiles
from gos_fx.kernels.layout import inside
from gos_fx.kernels.movement import settle
from gos_fx.kernels.scan import SCAN, body_network
from gos_fx.kernels.window_tiles import WindowPlan
from gos_fx.kernels.winograd_tiles import WinogradPlan
from gos_fx.latency.planning import DenseForm, Planned, planned
from gos_fx.latency.work import FLOAT_BYTES
from gos_fx.targets.target import Machine

# Smaller buffers are on the stack (TVM's kMaxStackAlloca).
LEAST_BYTES = 1024
# Multiply-adds from which threads share a kernel (kernels/schedules).
PARALLEL_WORK = 1 << 15
# Floats between the matrices of two points (kernels/schedules/winograd_scratch.py).
_APART = 16


def bytes_of(of: Type) -> int:
    """Of a value as it is."""
    return prod(tiles.concrete(of)) * int(np.dtype(of.dtype).itemsize)


def packed_operands(kernel: Kernel, plan: Planned) -> tuple[str, ...]:
    """The operands that become packed weights; none where nothing is packed."""
    anchor = kernel.anchor
    if plan is None or anchor.opcode in tiles.POOLS:
        return ()
    if anchor.opcode == "matmul":
        return (anchor.operands[1],)
    return (anchor.operands[1], *kernel.nodes[1].operands[1:])


def packed_bytes(kernel: Kernel, types: Mapping[str, Type], plan: Planned) -> int:
    """Of the packed weights, with zeros behind the last channel; 0 without any."""
    if not packed_operands(kernel, plan):
        return 0
    if isinstance(plan, WinogradPlan):
        outputs = ceil(plan.outputs / plan.co) * plan.co
        return FLOAT_BYTES * plan.points * plan.inputs * outputs
    shape = tiles.concrete(types[kernel.anchor.operands[1]])
    if isinstance(plan, WindowPlan):
        return FLOAT_BYTES * plan.vectors * plan.width * prod(shape[1:])
    assert isinstance(plan, DenseForm)
    outputs = ceil(plan.sizes.outputs / plan.plan.co) * plan.plan.co
    if kernel.anchor.opcode == "matmul":
        return FLOAT_BYTES * prod(shape[:-2]) * plan.run * outputs
    return FLOAT_BYTES * plan.sizes.taps[0] * plan.run * outputs


def scratch_bytes(
    kernel: Kernel, types: Mapping[str, Type], plan: Planned, machine: Machine
) -> int:
    """Of all threads together.

    Args:
        machine: with as many cores as threads.
    """
    if kernel.anchor.opcode == SCAN:
        return _scan(kernel, machine)
    if isinstance(plan, WinogradPlan):
        return _winograd(plan, machine.cores)
    if isinstance(plan, DenseForm):
        return _dense(plan, machine.cores)
    return _stages(kernel, types) if plan is None else 0


def _scan(kernel: Kernel, machine: Machine) -> int:
    """States and steps, and what the kernels of the body leave and need."""
    body, _ = settle(decompose(body_network(kernel.anchor)), border=False)
    types = body.types
    lasting = [value.type for value in body.inputs if value.type.role == "map"]
    own = 0
    for inner in partition(body):
        if inner.anchor.opcode != "result":
            lasting += inner.nodes[-1].type.values
            plan = planned(inner, types, machine)
            own += scratch_bytes(inner, types, plan, machine)
    return own + sum(_heap(bytes_of(of)) for of in lasting)


def _heap(size: int) -> int:
    return size if size >= LEAST_BYTES else 0


def _dense(form: DenseForm, threads: int) -> int:
    plan = form.plan
    shared, each = 0, 0
    for copy in form.copies:
        if copy.inside:
            each += _heap(FLOAT_BYTES * copy.pixels * copy.channels)
        else:
            shared += _heap(FLOAT_BYTES * copy.elements)
    if plan.by_taps:  # sums of a chunk wait
        across = 1 if plan.rows == 1 else plan.column_blocks
        block = plan.ho * plan.wo * plan.co
        each += _heap(FLOAT_BYTES * plan.chunk * across * block)
    is_parallel = form.sizes.work >= PARALLEL_WORK and form.parts > 1
    return shared + each * (threads if is_parallel else 1)


def _winograd(plan: WinogradPlan, cores: int) -> int:
    def matrices(channels: int) -> int:
        between = (plan.points - 1) * _APART
        return _heap(FLOAT_BYTES * (plan.points * plan.chunk * channels + between))

    inputs, products = matrices(plan.inputs), matrices(plan.group)
    is_parallel = plan.tiles * plan.points * plan.inputs * plan.outputs >= PARALLEL_WORK
    threads = cores if is_parallel else 1
    if plan.by_chunks:
        return (inputs + products) * (threads if plan.chunks > 1 else 1)
    return inputs + products * (1 if plan.groups == 1 else threads)


def _stages(kernel: Kernel, types: Mapping[str, Type]) -> int:
    """What the plain schedule keeps between its stages."""
    anchor = kernel.anchor
    if anchor.opcode not in ("softmax", "layer_norm"):
        return 0
    of = types[anchor.operands[0]]
    axis = anchor.attrs.get("axis")
    at = of.rank - 1 if axis is None else axis_index(str(axis), of.rank)
    if not (kernel.tile or kernel.unroll) and inside(of).order[-1] == at:
        return 0
    shape = tiles.concrete(of)
    rows = FLOAT_BYTES * prod(shape) // shape[at]
    if anchor.opcode == "softmax":  # the largest give way to the sums
        return _heap(rows) + _heap(FLOAT_BYTES * prod(shape))
    return 2 * _heap(rows)
