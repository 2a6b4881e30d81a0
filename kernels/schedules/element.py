"""Stages as expressions of one element: for rules that write their own loops."""

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
class Expression:
    """A stage with all before it inlined: of its indices, then of what is given."""

    _map: Any

    def at(self, *values: Any) -> Any:
        (found,) = self._map.map_indices(list(values))
        return found


@dataclass(frozen=True)
class Element:
    """One element of a kernel's result, of the sum (or maximum) that it begins with.

    Attributes:
        buffers: of the operands in ``Operands`` order, then of the result.
        reads: the other stages that were asked for.
    """

    buffers: tuple[Any, ...]
    _expression: Expression
    reads: tuple[Expression, ...] = ()

    def value(self, stored: Sequence[Any], base: Any) -> Any:
        """The result at these indices, in the order of memory."""
        return self._expression.at(*stored, base)


def element_of(
    job: Job, operands: Operands, nodes: Sequence[Node], *reads: te.Tensor
) -> Element:
    """What the element-wise ``nodes`` make of the value before them.

    Args:
        reads: further stages, each with a name of its own.
    """
    base = tirx.Var("base", job.kernel.nodes[-1].type.dtype)
    shape = concrete(job.kernel.nodes[-1].type)
    given = te.compute(shape, lambda *_: base, name=base_name(job, nodes))
    result = epilogue(job, operands, given, nodes)
    buffers, (expression, *others) = traced(operands, [base], [result, *reads])
    return Element(buffers, expression, tuple(others))


def traced(
    operands: Operands, given: Sequence[Any], stages: Sequence[te.Tensor]
) -> tuple[tuple[Any, ...], tuple[Expression, ...]]:
    """Buffers of the operands and of the first stage; an expression for each stage.

    Args:
        given: variables that the first stage is an expression of beside the operands.
    """
    parameters = [*given, *operands.placeholders.values()]
    function = te.create_prim_func([*parameters, *stages])
    sch = s_tir.Schedule(function)
    names = [stage.op.name for stage in stages]
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        if sch.get(block).name_hint not in names:
            sch.compute_inline(block)
    expressions = []
    for name, stage in zip(names, stages):
        block = sch.get(sch.get_sblock(name))
        # The block of a number alone has an axis that nothing depends on.
        indices = [v.var for v in block.iter_vars][: len(stage.shape)]
        values = given if name == names[0] else ()
        expressions.append(IndexMap([*indices, *values], [block.body.value], None))
    buffers = tuple(sch.mod["main"].params)[len(given) : len(parameters) + 1]
    return buffers, tuple(map(Expression, expressions))
