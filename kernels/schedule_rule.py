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
from gos_fx.kernels.tiles import Core

if TYPE_CHECKING:
    from tvm import te
    from tvm.tirx import PrimFunc


@dataclass(frozen=True)
class Job:
    """One kernel to build: sizes known, tile and unroll factors chosen."""

    kernel: Kernel
    types: Mapping[str, Type]
    machine: Core
    tile: Mapping[str, int]
    unroll: Mapping[str, int]


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
    """Code of a kernel: parameters are ``arguments`` in order, then the output."""

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
    """The values that a kernel reads, as ``te`` placeholders made on first use."""

    job: Job
    placeholders: dict[str, te.Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> te.Tensor:
        from tvm import te

        from gos_fx.kernels.tiles import concrete

        if name not in self.placeholders:
            of = self.job.types[name]
            self.placeholders[name] = te.placeholder(concrete(of), of.dtype, name)
        return self.placeholders[name]
