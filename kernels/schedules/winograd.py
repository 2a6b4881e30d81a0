"""Winograd's convolutions: fewer multiplications for kernels of 3x3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from gos_fx.kernels.dense_tiles import is_in_order
from gos_fx.kernels.schedule_rule import Job, Operands, Packing, Scheduled
from gos_fx.kernels.schedules.element import element_of
from gos_fx.kernels.schedules.loops import written
from gos_fx.kernels.schedules.winograd_code import WinogradCode
from gos_fx.kernels.schedules.winograd_input import InputTile
from gos_fx.kernels.schedules.winograd_output import OutputTile
from gos_fx.kernels.schedules.winograd_product import Product
from gos_fx.kernels.schedules.winograd_scratch import Scratch
from gos_fx.kernels.tiles import lanes
from gos_fx.kernels.winograd_form import TAPS, Form
from gos_fx.kernels.winograd_tiles import WinogradPlan

# An element of the weights by output channel, input channel, row and column.
Weight = Callable[[Any, Any, Any, Any], Any]
# Multiply-adds below which one thread is done before others have started.
PARALLEL_WORK = 1 << 15


def winograd(
    job: Job, weights: Callable[[Operands], Weight], plan: WinogradPlan
) -> Scheduled:
    """A dense convolution of 3x3 as ``plan`` says."""
    kernel = job.kernel
    operands = Operands(job)
    operands.stored(kernel.anchor.operands[0])
    element = element_of(job, operands, kernel.nodes[2:])
    packing = _pack(job, weights, plan)
    packed = tirx.decl_buffer(packing.shape, packing.dtype, "packed")
    *inputs, out = element.buffers
    width, in_order = lanes(job.machine), is_in_order(job.machine)
    scratch = Scratch(plan)
    code = WinogradCode(
        plan,
        scratch,
        InputTile(plan, scratch, inputs[0], width),
        Product(plan, scratch, packed, width, in_order),
        OutputTile(plan, scratch, element, width),
    )
    work = plan.tiles * plan.points * plan.inputs * plan.outputs
    body = code.body(work >= PARALLEL_WORK)
    function = written([*inputs, packed, out], body)
    return Scheduled(function, (*operands.placeholders, packing))


def _pack(
    job: Job, weights: Callable[[Operands], Weight], plan: WinogradPlan
) -> Packing:
    """``[co blocks, point, ci, co]``: the taps transformed, and zeros behind."""
    form, co, size = plan.form, plan.co, plan.form.size
    operands = Operands(job)
    weight = weights(operands)
    inputs = plan.inputs
    table = _table(form)
    zero = tirx.const(0, "float32")
    blocks = -(-plan.outputs // co)

    def column(o: Any, i: Any, k: Any, c: Any, v: Any) -> Any:
        source = o * co + v
        value = sum(table(i, r) * weight(source, c, r, k) for r in range(TAPS))
        return tirx.if_then_else(source < plan.outputs, value, zero)

    half = te.compute((blocks, size, TAPS, inputs, co), column, name="half")

    def element(o: Any, xi: Any, c: Any, v: Any) -> Any:
        i, j = xi // size, xi % size
        return sum(table(j, k) * half(o, i, k, c, v) for k in range(TAPS))

    shape = (blocks, plan.points, inputs, co)
    packed = te.compute(shape, element, name="packed")
    function = te.create_prim_func([*operands.placeholders.values(), packed])
    return Packing(function, tuple(operands.placeholders), shape)


def _table(form: Form) -> te.Tensor:
    """``G`` as a stage of its own."""

    def element(i: Any, k: Any) -> Any:
        value = tirx.const(0, "float32")
        for row, taps in enumerate(form.taps):
            for column, tap in enumerate(taps):
                here = tirx.all(tirx.EQ(i, row), tirx.EQ(k, column))
                value = tirx.Select(here, tirx.const(tap, "float32"), value)
        return value

    return te.compute((form.size, TAPS), element, name="taps")
