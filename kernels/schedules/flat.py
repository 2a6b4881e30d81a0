"""An image as one long row, for kernels that look at each pixel alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tvm import s_tir, tirx

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.schedule_rule import Job


def flattened(job: Job) -> Job:
    """The same kernel on images of one row; the tile's rows are put side by side."""
    kernel = job.kernel
    height, width = kernel.nodes[-1].type.shape[-2:]
    types = {name: _flat(of, height, width) for name, of in job.types.items()}
    nodes = tuple(
        replace(node, type=_flat(node.type, height, width)) for node in kernel.nodes
    )
    wo = min(job.tile["ho"] * job.tile["wo"], int(height) * int(width))
    copies = job.unroll.get("ho", 1) * job.unroll.get("wo", 1)
    return replace(
        job,
        kernel=_with_nodes(kernel, nodes),
        types=types,
        tile={**job.tile, "ho": 1, "wo": wo},
        unroll={**job.unroll, "ho": 1, "wo": copies},
    )


def _flat(of: Type, height: object, width: object) -> Type:
    """[.., H, W] -> [.., 1, H * W]; other sizes stay."""
    if of.role != "map" or of.rank < 4 or of.shape[-2:] != (height, width):
        return of
    return replace(of, shape=(*of.shape[:-2], 1, int(height) * int(width)))  # type: ignore[call-overload]


def _with_nodes(kernel: Kernel, nodes: tuple) -> Kernel:  # type: ignore[type-arg]
    return replace(kernel, anchor=nodes[0], nodes=nodes)


def with_shapes(
    function: tirx.PrimFunc, shapes: Sequence[tuple[int, ...]]
) -> tirx.PrimFunc:
    """The function with its parameters declared in other shapes of the same memory."""
    parameters, views = [], []
    for inner, shape in zip(function.params, shapes, strict=True):
        if tuple(int(size) for size in inner.shape) == shape:
            parameters.append(inner)
            continue
        outer = tirx.decl_buffer(shape, inner.dtype, inner.name)
        parameters.append(outer)
        views.append(tirx.DeclBuffer(inner, data=tirx.buffer_data(outer)))
    realize = function.body
    root = realize.block
    block = s_tir.SBlock(
        root.iter_vars,
        root.reads,
        root.writes,
        root.name_hint,
        tirx.SeqStmt([*views, root.body]),
        root.init,
        root.alloc_buffers,
        root.match_buffers,
        root.annotations,
    )
    body = s_tir.SBlockRealize(realize.iter_values, realize.predicate, block)
    return tirx.PrimFunc(parameters, body, function.ret_type, function.attrs)
