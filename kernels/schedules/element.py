"""The epilogue of a kernel as an expression: for rules that write their own loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, te, tirx
from tvm.tirx import IndexMap

from gos_fx.ir.graph import Node
from gos_fx.kernels.schedule_rule import Job, Operands
from gos_fx.kernels.schedules.epilogue import base_name, epilogue
from gos_fx.kernels.tiles import concrete


@dataclass(frozen=True)
class Element:
    """One element of a kernel's result, of the sum (or maximum) that it begins with.

    Attributes:
        buffers: of the operands in ``Operands`` order, then of the result.
    """

    buffers: tuple[Any, ...]
    _map: Any

    def value(self, stored: Sequence[Any], base: Any) -> Any:
        """The result at these indices, in the order of memory."""
        (found,) = self._map.map_indices([*stored, base])
        return found


def element_of(job: Job, operands: Operands, nodes: Sequence[Node]) -> Element:
    """What the element-wise ``nodes`` make of the value before them."""
    base = tirx.Var("base", job.kernel.nodes[-1].type.dtype)
    shape = concrete(job.kernel.nodes[-1].type)
    given = te.compute(shape, lambda *_: base, name=base_name(job, nodes))
    result = epilogue(job, operands, given, nodes)
    function = te.create_prim_func([base, *operands.placeholders.values(), result])
    sch = s_tir.Schedule(function)
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        if sch.get(block).name_hint != "out":
            sch.compute_inline(block)
    block = sch.get(sch.get_sblock("out"))
    indices = [v.var for v in block.iter_vars]
    return Element(
        tuple(sch.mod["main"].params[1:]),
        IndexMap([*indices, base], [block.body.value], None),
    )
