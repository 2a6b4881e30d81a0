"""A kernel whose stages sum nothing and give several results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tvm import tirx
from tvm.tirx import BufferStore

from gos_fx.kernels.layout import Layout, results
from gos_fx.kernels.schedule_rule import Job, Operands, Scheduled, schedule_rule
from gos_fx.kernels.schedules.element import Expression, traced
from gos_fx.kernels.schedules.loops import sequence, written
from gos_fx.kernels.schedules.pointwise import Grid
from gos_fx.kernels.te_instructions import TE_INSTRUCTIONS
from gos_fx.kernels.tiles import concrete, lanes


@schedule_rule(lambda kernel, types: kernel.anchor.opcode == "gradient")
def gradients(job: Job) -> Scheduled:
    """One result after the other."""
    anchor = job.kernel.anchor
    operands = Operands(job)
    x = operands[anchor.operands[0]]
    parts = TE_INSTRUCTIONS[anchor.opcode](x, name="part", **dict(anchor.attributes))
    (*given, _), expressions = traced(operands, [], parts)
    lies = results(anchor.type, None)
    shapes = [layout.stored(concrete(of)) for of, layout in lies]
    outputs = [tirx.decl_buffer(s, of.dtype, "out") for s, (of, _) in zip(shapes, lies)]
    body: list[Any] = []
    for out, shape, (_, layout), part in zip(outputs, shapes, lies, expressions):
        store = partial(_store, out, layout, part)
        body += Grid(shape, lanes(job.machine)).statements(store)
    function = written([*given, *outputs], sequence(body))
    return Scheduled(function, tuple(operands.placeholders))


def _store(out: Any, layout: Layout, part: Expression, index: Sequence[Any]) -> Any:
    return BufferStore(out, part.at(*layout.logical(index)), list(index))
