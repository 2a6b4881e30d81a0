"""The Cortex-A53's in-order pipeline: cycles of a block of instructions.

Two instructions are issued in a cycle if both have what they read, and what they occupy
does not collide. The rules were measured on hardware; :mod:`gos_fx.emulator.a64` names
the sources. LLVM has models of this core and of its successor, but llvm-mca lets both
issue what the core cannot (two 128-bit FMLAs, a vector load beside one), and charges
in-order write-back stalls that the core does not have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from gos_fx.emulator import a64
from gos_fx.emulator.a64 import Op, decode

NAME = "cortex-a53"

# From an accumulation to the next one on the same register.
_FORWARDED = 4
# A vector load is not issued so many cycles after a fused instruction, which then
# enters the adder (ncnn: "cannot be issued on the 4th cycle of each fmla").
_ENTERS_ADDER = 4
# Enough repetitions for a steady state: so many instructions, within these numbers.
_INSTRUCTIONS, _MOST, _FEWEST = 600, 16, 6


def version() -> str:
    """Changes whenever cycles could come out differently."""
    sources = b"".join(Path(path).read_bytes() for path in (__file__, a64.__file__))
    return f"{NAME}-{hashlib.sha256(sources).hexdigest()[:12]}"


def block_cycles(block: Sequence[str]) -> float:
    """Cycles of one execution of a block that is repeated for ever.

    Args:
        block: lines of assembly; the last one may be a branch, which is taken and
            predicted.
    """
    ops = [decode(line) for line in block]
    count = max(_FEWEST, min(_MOST, _INSTRUCTIONS // max(1, len(ops))))
    half = count // 2
    pipeline = Pipeline()
    for turn in range(count):
        if turn == half:
            before = pipeline.free
        for op in ops:
            pipeline.issue(op)
        pipeline.turn()
    return (pipeline.free - before) / (count - half)


class Pipeline:
    """The state between two instructions.

    Attributes:
        free: first cycle in which the next instruction can be issued as the first.
    """

    def __init__(self) -> None:
        self.free = 0
        self._ready: dict[str, int] = {}
        self._accumulated: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._fused: set[int] = set()
        self._first: Op | None = None  # that could still have a partner
        self._cycle = -1

    def issue(self, op: Op) -> int:
        """The cycle in which the instruction is issued."""
        needed = self._needed(op)
        first = self._first
        if first is not None and needed <= self._cycle and self._fit(first, op):
            cycle = self._cycle
            self.free = max(self.free, cycle + op.cycles)
            self._first = None
        else:
            cycle = max(self.free, needed)
            while op.loads_vector and cycle - _ENTERS_ADDER in self._fused:
                cycle += 1
            self.free = cycle + op.cycles
            # A partner goes into the last of several cycles.
            self._cycle = self.free - 1
            self._first = None if op.alone else op
        self._write(op, cycle)
        return cycle

    def turn(self) -> None:
        """The next instruction comes from elsewhere: nothing is issued beside it."""
        self._first = None

    def _needed(self, op: Op) -> int:
        ready, needed = self._ready, 0
        for register, late in op.reads:
            at = ready.get(register, 0) - late
            if at > needed:
                needed = at
        if op.adds_to is not None:
            known = self._accumulated.get(op.adds_to)
            needed = max(needed, ready.get(op.adds_to, 0) if known is None else known)
        if op.inserts is not None:
            needed = max(needed, self._written.get(op.inserts, -1) + 1)
        return needed

    def _fit(self, first: Op, second: Op) -> bool:
        if second.leads or second.alone or first.halves + second.halves > 2:
            return False
        if (first.memory and second.memory) or (first.branches and second.branches):
            return False
        if second.cycles > 1 and (first.halves or first.cycles > 1):
            return False
        return not (second.loads_vector and self._cycle - _ENTERS_ADDER in self._fused)

    def _write(self, op: Op, cycle: int) -> None:
        for register, latency in op.writes:
            ready = cycle + latency
            if register == op.inserts:
                ready = max(ready, self._ready.get(register, 0))
            self._ready[register] = ready
            self._written[register] = cycle
            self._accumulated.pop(register, None)
        if op.adds_to is not None:
            self._accumulated[op.writes[0][0]] = cycle + _FORWARDED
        if op.fused:
            self._fused.add(cycle)
            if len(self._fused) > 64:
                self._fused = {c for c in self._fused if c >= cycle - 8}
        if op.branches:
            self._first = None
