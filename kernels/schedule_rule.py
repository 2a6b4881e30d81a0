"""What a schedule is: a rule that turns one kernel into scheduled code.

A rule is a function registered for the kernels that a predicate accepts; one rule takes
what no other does and needs no tile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.layout import Layout, Seen, inside
from gos_fx.kernels.tiles import Core, concrete

if TYPE_CHECKING:
    from tvm import te
    from tvm.tirx import PrimFunc


@dataclass(frozen=True)
class Job:
    """One kernel to build: sizes known, tile and unroll factors chosen.

    ``layouts`` has the values that do not lie as :func:`~gos_fx.kernels.layout.inside`
    says: what the network takes and gives.
    """

    kernel: Kernel
    types: Mapping[str, Type]
    machine: Core
    tile: Mapping[str, int]
    unroll: Mapping[str, int]
    layouts: Mapping[str, Layout] = field(default_factory=dict)

    def layout(self, name: str) -> Layout:
        """How a value lies in memory."""
        found = self.layouts.get(name)
        return inside(self.types[name]) if found is None else found


@dataclass(frozen=True)
class Packing:
    """A weight in the order in which a kernel reads it, made by a function of its own.

    That function takes ``inputs`` and is evaluated at compile time where they are
    constants.
    """

    function: PrimFunc
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Scheduled:
    """Code of a kernel: parameters are ``arguments`` in order, then the outputs."""

    function: PrimFunc
    arguments: tuple[str | Packing, ...]


Rule = Callable[[Job], Scheduled]
Predicate = Callable[[Kernel, Mapping[str, Type]], bool]

# Rules with a predicate, asked in any order: at most one accepts a kernel.
RULES: list[tuple[Predicate, Rule]] = []
# The rule for what no other accepts.
FALLBACK: list[Rule] = []


def schedule_rule(accepts: Predicate | None = None) -> Callable[[Rule], Rule]:
    """Register the decorated rule; without a predicate, for what no other accepts."""

    def declare(rule: Rule) -> Rule:
        if accepts is None:
            FALLBACK.append(rule)
        else:
            RULES.append((accepts, rule))
        return rule

    return declare


def rule_for(kernel: Kernel, types: Mapping[str, Type]) -> Rule:
    """The rule that builds this kernel."""
    found = (rule for accepts, rule in RULES if accepts(kernel, types))
    return next(found, FALLBACK[0])


@dataclass
class Operands:
    """The values that a kernel reads; ``placeholders`` has those read so far, in order.

    ``operands[name]`` has the logical axes, whatever the layout: a stage that only
    renames indices, for the schedule to inline.
    """

    job: Job
    placeholders: dict[str, te.Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> te.Tensor:
        from tvm import te

        layout = self.job.layout(name)
        if isinstance(layout, Seen):
            return self._seen(name, layout)
        source = self.stored(name)
        if layout.is_plain:
            return source
        return te.compute(
            concrete(self.job.types[name]),
            lambda *i: source(*layout.stored(i)),
            name=f"view_{name}",
        )

    def stored(self, name: str) -> te.Tensor:
        """The value with its axes in the order of memory."""
        from tvm import te

        layout = self.job.layout(name)
        if isinstance(layout, Seen):
            return self._seen(name, layout)
        if name not in self.placeholders:
            of = self.job.types[name]
            shape = self.job.layout(name).stored(concrete(of))
            self.placeholders[name] = te.placeholder(shape, of.dtype, name)
        return self.placeholders[name]

    def _seen(self, name: str, layout: Seen) -> te.Tensor:
        from gos_fx.kernels.te_kernels import move

        return move(self[layout.source], steps=layout.steps, name=f"view_{name}")


def stored_output(job: Job, result: te.Tensor) -> te.Tensor:
    """The stage ``out``: the kernel's result in the order of memory.

    Where that is the logical order, ``result`` must be named ``out`` already.
    """
    from tvm import te

    layout = job.layout(job.kernel.output)
    if layout.is_plain:
        return result
    shape = layout.stored([int(size) for size in result.shape])
    return te.compute(shape, lambda *i: result(*layout.logical(i)), name="out")


def result_name(job: Job) -> str:
    """Name of the stage that computes the last node's logical result."""
    return "out" if job.layout(job.kernel.output).is_plain else "result"
