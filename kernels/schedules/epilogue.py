"""What follows the sums of a kernel in the same loops."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te

from gos_fx.ir.graph import Node
from gos_fx.kernels.schedule_rule import Job, Operands, result_name, stored_output
from gos_fx.kernels.te_instructions import TE_INSTRUCTIONS


def blocks_of(extent: int, size: int) -> int:
    """Number of tiles along a loop, the last one perhaps with a tail."""
    return -(-extent // size)


def base_name(job: Job, nodes: Sequence[Node]) -> str:
    """Name of the stage that reads ``acc``: the output itself without an epilogue."""
    return "gather" if nodes else result_name(job)


def epilogue(
    job: Job, operands: Operands, base: te.Tensor, nodes: Sequence[Node]
) -> te.Tensor:
    """The elementwise nodes after an anchor; the stage ``out`` has their result."""
    values = {job.kernel.nodes[len(job.kernel.nodes) - len(nodes) - 1].name: base}
    current = base
    for i, node in enumerate(nodes):
        name = result_name(job) if i == len(nodes) - 1 else f"v_{node.name}"
        arguments = [values[o] if o in values else operands[o] for o in node.operands]
        current = TE_INSTRUCTIONS[node.opcode](
            *arguments, name=name, **dict(node.attributes)
        )
        values[node.name] = current
    return stored_output(job, current)
