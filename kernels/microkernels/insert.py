"""A microkernel in the place of the innermost loops of a scheduled function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from tvm import tirx
from tvm.ir import Range, StringImm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.s_tir.stmt import SBlock

from gos_fx.kernels.microkernels import LANES, STEPS, Microkernel

# LLVM code in the value of this attribute becomes part of the module.
_IMPORT = "pragma_import_llvm"
Bias = Callable[[Mapping[str, Any]], Any]
_REDUCTION = tirx.IterVar.CommReduce


def insert(
    sch: Schedule,
    loop: LoopRV,
    kernel: Microkernel,
    steps: int,
    bias: Bias | None = None,
) -> SBlockRV:
    """Let a microkernel do what is inside a loop of a schedule.

    Inside is one block that computes ``acc[..] += x[..] * w[..]``: without its
    initialisation for a kernel that starts with ``add``, with it and with the whole
    reduction for others. The first elements of the regions that it reads are those that
    the microkernel is given; the tile of ``acc`` must be contiguous in memory, and the
    steps of the reduction, if they are split, be whole columns of a window.

    ``acc`` stays in registers from one microkernel to the next if TVM has it on the
    stack: in scope ``global`` and below 1024 bytes, not in scope ``local``.

    Args:
        sch: is changed; the block is opaque from then on.
        loop: around the tile and the innermost steps of the reduction.
        kernel: what to call.
        steps: of the reduction, as many blocks and the kernel's tail.
        bias: for a kernel that starts with it: gives the first element for the block's
            axes by their names in ``te``; its buffer is a parameter of the function.

    Raises:
        ValueError: the block is initialised where it must not be, or the reverse, or
            its reduction is not what the kernel does.
    """
    block = sch.blockize(loop)
    old = sch.get(block)
    if (old.init is None) != (kernel.start == "add"):
        raise ValueError(f"no place for a kernel that starts with {kernel.start!r}")
    if kernel.start != "add" and _reduced(old) > 1:
        raise ValueError("a loop of the reduction is outside of the kernel")
    if _reduced(_inner(old)) != steps:
        raise ValueError(f"{_reduced(_inner(old))} steps, not {steps}")
    if steps < STEPS or steps % STEPS != kernel.tail:
        raise ValueError(f"{steps} steps for a kernel with a tail of {kernel.tail}")
    (acc,) = old.writes
    x, w = (region for region in old.reads if not region.source.same_as(acc.source))
    arguments = [*map(_first, (acc, x, w)), tirx.IntImm("int64", steps // STEPS)]
    reads = [x, w] if kernel.start != "add" else list(old.reads)
    if kernel.start == "bias":
        if bias is None:
            raise ValueError("no bias")
        load = bias({_axis(axis.var.name): axis.var for axis in old.iter_vars})
        arguments.append(tirx.address_of(load))
        reads.append(_row(load, LANES * kernel.vectors))
    call = tirx.call_extern("void", kernel.name, *arguments)
    new = SBlock(
        old.iter_vars,
        reads,
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


def _inner(block: Any) -> Any:
    body = block.body
    while isinstance(body, tirx.For):
        body = body.body
    return body.block


def _reduced(block: Any) -> int:
    """Steps of the reduction that a block's axes stand for."""
    axes = (axis for axis in block.iter_vars if axis.iter_type == _REDUCTION)
    return prod(int(axis.dom.extent) for axis in axes)


def _axis(name: str) -> str:
    """Without what te and blockize put around it."""
    return name.removeprefix("v_").removesuffix("_o")


def _row(load: Any, width: int) -> Any:
    """The region of so many elements from one on."""
    counts = [1] * (len(load.indices) - 1) + [width]
    ranges = map(Range.from_min_extent, load.indices, counts)
    return tirx.BufferRegion(load.source, list(ranges))


def _first(region: Any) -> Any:
    load = tirx.BufferLoad(region.source, [bounds.min for bounds in region.region])
    return tirx.address_of(load)
