"""Dense convolution, over all channels or in groups."""

from __future__ import annotations

from typing import Any

from tvm import te

from gos_fx.kernels.layout import inside
from gos_fx.kernels.schedule_rule import Job, Operands, Scheduled, schedule_rule
from gos_fx.kernels.schedules.dense import Weight, dense
from gos_fx.kernels.schedules.winograd import winograd
from gos_fx.kernels.te_instructions import const, shape_of
from gos_fx.kernels.tiles import is_dense
from gos_fx.kernels.winograd_tiles import winograd_plan


@schedule_rule(is_dense)
def dense_convolution(job: Job) -> Scheduled:
    """Sums over the channels of a group and the kernel, epilogue, one store."""
    anchor, aggregation = job.kernel.nodes[:2]

    def weights(operands: Operands) -> Weight:
        w = operands[anchor.operands[1]]
        shares = aggregation.operands[1:]
        scaled = scale_weights(aggregation.opcode, w, shares, operands)

        def element(o: Any, c: Any, i: Any, j: Any) -> Any:
            return scaled(o, c, i, j)

        return element

    plan = winograd_plan(job.kernel, job.types, job.machine)
    if plan is not None and _lie_as_inside(job):
        return winograd(job, weights, plan)
    return dense(job, weights, {loop: job.tile[loop] for loop in ("ho", "wo", "co")})


def _lie_as_inside(job: Job) -> bool:
    """Whether the channels of all pixels read and written lie side by side."""
    ends = (job.kernel.anchor.operands[0], job.kernel.output)
    return all(job.layout(name) == inside(job.types[name]) for name in ends)


def scale_weights(
    aggregation: str, w: te.Tensor, shares: tuple[str, ...], operands: Operands
) -> te.Tensor:
    """Weights times what their aggregation over ``ci`` multiplies each map with."""
    if aggregation == "sum":
        return w
    per_group = shape_of(w)[1]
    if aggregation == "mean":
        share = const(1.0 / per_group, w)
        return te.compute(shape_of(w), lambda *i: w(*i) * share, name="scaled")
    given = operands[shares[0]]
    k = te.reduce_axis((0, per_group), name="k")
    total = te.compute((1,), lambda _: te.sum(given(k), axis=[k]), name="total")
    return te.compute(
        shape_of(w), lambda *i: w(*i) * given(i[1]) / total(0), name="scaled"
    )
