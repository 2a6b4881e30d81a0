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
from gos_fx.kernels.tuning.alone import kernel_graph
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


def tuned(kernel: Kernel, types: Mapping[str, Type]) -> Kernel:
    """The kernel with tuned sizes where it has none of its own.

    As it is where nothing is known of it, and where it is run at compile time.
    """
    current = _CURRENT.get()
    if current is None or kernel.nodes[-1].type.role != "map":
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
