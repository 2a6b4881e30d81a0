"""Where the code generator asks for tuned sizes.

The sizes reach the compiling process in its job: what it makes is a function of the job
alone, whoever writes to the database meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.graph import Graph
from gos_fx.ir.types import Type
from gos_fx.kernels.layout import Layout, inside
from gos_fx.kernels.tuning.alone import is_tiled, kernel_graph
from gos_fx.kernels.tuning.sizes import Sizes


@dataclass
class Tuned:
    """Tuned sizes of one compilation, by the key of the kernel.

    Attributes:
        asked: the kernels that were looked up, as graphs alone, one for each time.
        used: keys of those for which there were sizes.
    """

    sizes: Mapping[str, Sizes]
    asked: list[Graph] = field(default_factory=list)
    used: list[str] = field(default_factory=list)


_CURRENT: ContextVar[Tuned | None] = ContextVar("tuned", default=None)


@contextmanager
def using(found: Tuned) -> Iterator[Tuned]:
    """Have :func:`tuned` look in ``found``."""
    token = _CURRENT.set(found)
    try:
        yield found
    finally:
        _CURRENT.reset(token)


def tuned(
    kernel: Kernel,
    types: Mapping[str, Type],
    layouts: Mapping[str, Layout] | None = None,
) -> Kernel:
    """The kernel with tuned sizes where it has none of its own.

    As it is where nothing is known of it, where it has no tile, where it is run at
    compile time, and where ``layouts`` says that its operands lie otherwise than those
    of a kernel that is compiled alone.
    """
    current = _CURRENT.get()
    if current is None or not is_tiled(kernel):
        return kernel
    if not _lies_as_alone(kernel, types, layouts or {}):
        return kernel
    graph = kernel_graph(kernel, types)
    current.asked.append(graph)
    sizes = current.sizes.get(graph.digest)
    if sizes is None:
        return kernel
    current.used.append(graph.digest)
    tile, unroll = dict(sizes.tile), dict(sizes.unroll)
    return replace(
        kernel,
        tile=tuple(sorted((tile | dict(kernel.tile)).items())),
        unroll=tuple(sorted((unroll | dict(kernel.unroll)).items())),
    )


def _lies_as_alone(
    kernel: Kernel, types: Mapping[str, Type], layouts: Mapping[str, Layout]
) -> bool:
    """Whether the kernel reads and writes as if it were compiled alone.

    What a network takes and gives has its axes in logical order; a convolution or pool
    is tuned all the same as if it lay as inside: only its edge differs.
    """
    given = {name: layouts[name] for name in kernel.inputs if name in layouts}
    if kernel.output in layouts:
        given[kernel.output] = layouts[kernel.output]
    is_product = kernel.anchor.opcode == "matmul"
    return all(
        layout == inside(types[name]) or (layout.is_plain and not is_product)
        for name, layout in given.items()
    )
