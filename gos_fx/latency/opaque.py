"""Instructions that are one function of their own: factorisations, gathers, scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

from gos_fx.instructions.recurrence import TIME
from gos_fx.ir.decompose import decompose
from gos_fx.ir.fusion import NO_CODE, Kernel, partition
from gos_fx.ir.types import Type
from gos_fx.kernels import tiles
from gos_fx.kernels.movement import settle
from gos_fx.kernels.scan import body_network
from gos_fx.latency.constants import Constants
from gos_fx.latency.flops import flops_of
from gos_fx.latency.lines import lines_of
from gos_fx.latency.work import FLOAT_BYTES, Loop, Stage, Sweep, Work
from gos_fx.targets.target import Machine

# Cycles of the A53 for each operation that a declaration counts, in scalar code. What
# the emulator counts for matrices of 8 to 32 rows is within a factor of 1.6. Iterations
# end sooner or later with other numbers; what is not listed was not counted, and takes
# the middle of the others.
_CYCLES = {
    "cholesky": 5.9,
    "det": 4.6,
    "eigh": 8.8,
    "inverse": 7.0,
    "matrix_rank": 28.0,
    "pinv": 4.2,
    "qr": 5.7,
    "svd": 4.5,
}
_CYCLES_OF_OTHERS = 5.8
# Gives the work of one kernel of a body.
OfKernel = Callable[[Kernel, Mapping[str, Type]], Work]


def opaque_work(kernel: Kernel, types: Mapping[str, Type], machine: Machine) -> Work:
    """Scalar code, by the operations that the declaration counts.

    Matrices of a batch are parts that threads take.
    """
    anchor = kernel.anchor
    operands = [types[name] for name in anchor.operands]
    (first, *_) = operands
    batch = prod(tiles.concrete(first)[:-2])
    each = _CYCLES.get(anchor.opcode, _CYCLES_OF_OTHERS)
    loop = Loop(each * flops_of(anchor, operands), max(1, batch))
    return Work((loop,), _once(kernel, types, machine))


def scan_work(
    kernel: Kernel,
    types: Mapping[str, Type],
    machine: Machine,
    c: Constants,
    of_kernel: OfKernel,
) -> Work:
    """The kernels of the body, as often as there are steps.

    Lines of the second step are those of every later one: what the first brought into
    the cache is there, or is not.
    """
    body, _ = settle(decompose(body_network(kernel.anchor)), border=False)
    steps = tiles.concrete(kernel.anchor.type.parts[0])[TIME]
    works = [
        of_kernel(inner, body.types)
        for inner in partition(body)
        if inner.nodes[-1].type.role == "map" and inner.anchor.opcode not in NO_CODE
    ]
    loops = tuple(
        Loop(steps * loop.cycles, loop.parts, steps * loop.starts)
        for work in works
        for loop in work.loops
    )
    stages = [stage for work in works for stage in work.stages]
    again = sum(work.again for work in works)
    steady = lines_of(stages * 2, machine, c) - lines_of(stages, machine, c)
    first = lines_of(stages, machine, c)
    later = (steps - 1) * (steady + again)
    return Work(loops, _once(kernel, types, machine), first + again + later)


def _once(
    kernel: Kernel, types: Mapping[str, Type], machine: Machine
) -> tuple[Stage, ...]:
    """What comes in as it was left, and what goes out."""
    per = machine.line_bytes / FLOAT_BYTES

    def sweep(name: str, of: Type, write: bool) -> Sweep:
        size = sum(prod(tiles.concrete(value)) for value in of.values)
        return Sweep(name, size / per, write)

    maps = [name for name in kernel.inputs if types[name].role == "map"]
    before = [sweep(name, types[name], True) for name in maps]
    out = sweep(kernel.output, kernel.anchor.type, True)
    return before, [*(replace(x, write=False) for x in before), out]
