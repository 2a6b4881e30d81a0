"""A tile of windows for an in-order 64-bit ARM core, as a function of LLVM.

A depth-wise convolution loads about as much as it multiplies, and a 128-bit load takes
the Cortex-A53 two cycles beside which it multiplies nothing. Two integer loads issue
beside multiply-adds, and both of their insertions into a vector take one cycle, so that
a vector costs one. The code of a tile is written down in an order that a model of the
core finds without waiting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from gos_fx.emulator.a64 import decode
from gos_fx.emulator.pipeline import Pipeline
from gos_fx.kernels.microkernels.window_function import (
    GENERAL,
    WORD,
    Bases,
    WindowTile,
    function,
)

__all__ = ["WindowKernel", "WindowTile", "window_kernel"]

# Registers that vectors pass through on their way into accumulators.
FEWEST_PASSING = 4
# Cycles until another instruction can read: loaded, inserted, accumulated.
_LOADED, _INSERTED, _ADDED = 3, 2, 4
# Multiply-adds that may go before their turn; complete vectors that are kept ahead.
_WINDOW, _AHEAD = 24, (2, 5)
_MOST_BASES = 12


@dataclass(frozen=True)
class WindowKernel:
    """A function ``void name(float *acc, float *x, w...)``.

    ``acc`` gets the outputs, four channels each; ``x`` points to the first input. The
    weights are vectors by value if they are resident, else one pointer to them.
    """

    name: str
    llvm_ir: str
    cycles: int


@lru_cache(maxsize=1024)
def window_kernel(tile: WindowTile) -> WindowKernel | None:
    """The microkernel of a tile; None if it does not fit the registers."""
    if tile.passing < FEWEST_PASSING + (0 if tile.resident or not tile.weights else 4):
        return None
    bases = Bases([offset for offset, _ in tile.inputs])
    if len(bases.starts) > _MOST_BASES:
        return None
    found = [made for ahead in _AHEAD if (made := _Writer(tile, bases, ahead).lines())]
    if not found:
        return None
    lines = min(found, key=_cycles)
    # The same name must mean the same text: that has the distances of the bases too.
    text = function("", tile, bases, lines)
    name = f"gos_window_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return WindowKernel(name, function(name, tile, bases, lines), _cycles(lines))


def _cycles(lines: Sequence[str]) -> int:
    names = {f"x{i}": f"x{16 + i}" for i in range(_MOST_BASES)} | {"w": "x3"}
    pipeline = Pipeline()
    for line in lines:
        pipeline.issue(decode(line.format(**names)))
    return pipeline.free


@dataclass
class _Vector:
    """An input or weights on the way into a register."""

    base: str
    offset: int
    users: int
    register: int = -1
    general: list[int] = field(default_factory=lambda: [-1, -1])
    there: list[int] = field(default_factory=lambda: [-1, -1])
    inserted: int = 0
    complete: int = -1


class _Writer:
    """Cycle by cycle: a multiply-add and a load, or two insertions."""

    def __init__(self, tile: WindowTile, bases: Bases, ahead: int) -> None:
        self.tile, self.ahead = tile, ahead
        self.free = list(range(tile.outputs, tile.first_weight))
        self.general = list(GENERAL)
        # (accumulator, input, weights), in the order in which inputs come
        self.steps: list[tuple[int, _Vector, _Vector | None, int]] = []
        self.vectors: list[_Vector] = []
        streamed: dict[int, _Vector] = {}
        for (_, readers), (base, offset) in zip(tile.inputs, bases.places):
            vector = _Vector(f"x{base}", offset, len(readers))
            needed = [vector]
            for accumulator, k in readers:
                weights = None
                if tile.weights and not tile.resident:
                    if k not in streamed:
                        streamed[k] = _Vector("w", 16 * k, 0)
                        needed.append(streamed[k])
                    weights = streamed[k]
                    weights.users += 1
                self.steps.append((accumulator, vector, weights, k))
            self.vectors += needed
        self.started: set[int] = set()
        self.ready = [0] * tile.outputs
        self.text: list[str] = []

    def lines(self) -> list[str] | None:
        """The code; None if it comes to a stop for want of registers."""
        loads = [(v, half) for v in self.vectors for half in range(2)]
        insertions = list(loads)
        cycle = idle = 0
        while self.steps:
            done = self._turn(cycle, loads, insertions)
            idle = 0 if done else idle + 1
            if idle > 8:
                return None
            cycle += 1
        return self.text

    def _turn(
        self,
        cycle: int,
        loads: list[tuple[_Vector, int]],
        insertions: list[tuple[_Vector, int]],
    ) -> bool:
        ready = [s for s in self.steps[:_WINDOW] if self._is_ready(s, cycle)]
        moved = self._insertable(insertions, cycle)
        if ready and (len(ready) >= self.ahead or len(moved) < 2):
            self._add(ready[0], cycle)
            self._load(loads, cycle)
            return True
        for vector, half in moved:
            insertions.remove((vector, half))
            self._insert(vector, half, cycle)
        loaded = len(moved) < 2 and self._load(loads, cycle)
        return bool(moved) or loaded

    def _is_ready(
        self, step: tuple[int, _Vector, _Vector | None, int], cycle: int
    ) -> bool:
        accumulator, vector, weights, _ = step
        there = all(
            0 <= v.complete <= cycle for v in (vector, weights) if v is not None
        )
        return there and self.ready[accumulator] <= cycle

    def _add(self, step: tuple[int, _Vector, _Vector | None, int], cycle: int) -> None:
        accumulator, vector, weights, k = step
        self.steps.remove(step)
        a, x = f"v{accumulator}", f"v{vector.register}"
        begun = accumulator in self.started
        self.started.add(accumulator)
        if self.tile.weights:
            register = self.tile.first_weight + k
            if weights is not None:
                register = weights.register
            name = "fmla" if begun else "fmul"
            self.text.append(f"{name}\t{a}.4s, {x}.4s, v{register}.4s")
        elif begun:
            name = "fadd" if self.tile.sums else "fmax"
            self.text.append(f"{name}\t{a}.4s, {a}.4s, {x}.4s")
        else:
            self.text.append(f"mov\t{a}.16b, {x}.16b")
        self.ready[accumulator] = cycle + _ADDED
        for v in (vector, weights):
            if v is not None:
                v.users -= 1
                if not v.users:
                    self.free.append(v.register)

    def _load(self, loads: list[tuple[_Vector, int]], cycle: int) -> bool:
        if not loads or not self.general:
            return False
        vector, half = loads.pop(0)
        register = vector.general[half] = self.general.pop(0)
        vector.there[half] = cycle + _LOADED
        at = f"[{{{vector.base}}}, #{vector.offset + WORD * half}]"
        self.text.append(f"ldr\tx{register}, {at}")
        return True

    def _insertable(
        self, insertions: list[tuple[_Vector, int]], cycle: int
    ) -> list[tuple[_Vector, int]]:
        """Two words that can go into registers in one cycle: not into the same."""
        found: list[tuple[_Vector, int]] = []
        room = len(self.free)
        for vector, half in insertions[:6]:
            if not 0 <= vector.there[half] <= cycle:
                break
            if vector.register < 0:
                if half or not room:
                    continue
                room -= 1
            if all(vector is not other for other, _ in found):
                found.append((vector, half))
            if len(found) == 2:
                break
        return found

    def _insert(self, vector: _Vector, half: int, cycle: int) -> None:
        if vector.register < 0:
            vector.register = self.free.pop(0)
        general = vector.general[half]
        self.text.append(f"mov\tv{vector.register}.d[{half}], x{general}")
        self.general.append(general)
        vector.inserted += 1
        if vector.inserted == 2:
            vector.complete = cycle + _INSERTED
