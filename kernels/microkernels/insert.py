"""A microkernel in the place of the innermost loops of a scheduled function."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.ir import StringImm
from tvm.s_tir import SBlock, Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from gos_fx.kernels.microkernels import STEPS, Microkernel

# LLVM code in the value of this attribute becomes part of the module.
_IMPORT = "pragma_import_llvm"


def insert(sch: Schedule, loop: LoopRV, kernel: Microkernel, steps: int) -> SBlockRV:
    """Let a microkernel do what is inside a loop of a schedule.

    Inside is one block, without its initialisation, that computes ``acc[..] += x[..] *
    w[..]``. The first elements of the regions that it reads are those that the
    microkernel is given; the tile of ``acc`` must be contiguous in memory, and the
    steps of the reduction, if they are split, be whole columns of a window.

    ``acc`` stays in registers from one microkernel to the next if TVM has it on the
    stack: in scope ``global`` and below 1024 bytes, not in scope ``local``.

    Args:
        sch: is changed; the block is opaque from then on.
        loop: around the tile and the innermost steps of the reduction.
        kernel: what to call.
        steps: of the reduction, a multiple of four.
    """
    block = sch.blockize(loop)
    old = sch.get(block)
    (acc,) = old.writes
    x, w = (region for region in old.reads if not region.source.same_as(acc.source))
    call = tirx.call_extern(
        "void",
        kernel.name,
        *map(_first, (acc, x, w)),
        tirx.IntImm("int64", steps // STEPS),
    )
    new = SBlock(
        old.iter_vars,
        old.reads,
        old.writes,
        old.name_hint,
        tirx.AttrStmt(
            tirx.IntImm("int32", 0),
            _IMPORT,
            StringImm(kernel.llvm_ir),
            tirx.Evaluate(call),
        ),
    )
    sch.state.replace(sch.get_sref(block), new, {old: new})
    return block


def _first(region: Any) -> Any:
    load = tirx.BufferLoad(region.source, [bounds.min for bounds in region.region])
    return tirx.address_of(load)
