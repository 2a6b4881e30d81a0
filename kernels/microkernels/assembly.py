"""A schedule as A64 assembly: prologue, loop and epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gos_fx.emulator.a64 import decode
from gos_fx.emulator.pipeline import Pipeline
from gos_fx.kernels.microkernels.order import Order, Word

STEP = 16  # bytes of a pixel in a block
_LAST = 32760  # largest offset of a load of 64 bits; offsets are multiples of eight
# General registers for words on their way; LLVM chooses those of pointers and counters.
GENERAL = tuple(range(4, 16))


@dataclass(frozen=True)
class Bases:
    """Addresses from which the pixels are within reach of a load.

    Attributes:
        starts: bytes from the first operand to each base.
        places: of each pixel, its base and its offset from there.
    """

    starts: tuple[int, ...]
    places: tuple[tuple[int, int], ...]

    @staticmethod
    def of(offsets: Sequence[int]) -> Bases:
        """For pixels at these bytes, which are not negative."""
        starts: list[int] = []
        found: dict[int, tuple[int, int]] = {}
        for offset in sorted(set(offsets)):
            for base, start in enumerate(starts):
                apart = offset - start
                if apart % 8 == 0 and apart + STEP + 8 <= _LAST:
                    found[offset] = base, apart
                    break
            else:
                found[offset] = len(starts), 0
                starts.append(offset)
        return Bases(tuple(starts), tuple(found[offset] for offset in offsets))


@dataclass(frozen=True)
class Body:
    """Lines of assembly, ``name<tab>operands``.

    Pointers and counters are in braces: ``{x0}``, ... the bases of the pixels, ``{w}``
    the weights, ``{n}`` the blocks that are left.
    """

    prologue: tuple[str, ...]
    loop: tuple[str, ...]
    epilogue: tuple[str, ...]

    def cycles(self, blocks: int) -> int:
        """Of the whole, with the operands at hand, on an in-order core."""
        names = {"w": "x1", "n": "x2", **{f"x{i}": f"x{16 + i}" for i in range(12)}}
        pipeline = Pipeline()
        loops = [self.loop] * (blocks - 1)
        for part in (self.prologue, *loops, self.epilogue):
            for line in part:
                pipeline.issue(decode(line.format(**names)))
            pipeline.turn()
        return pipeline.free


def body(order: Order, bases: Bases) -> Body | None:
    """The loop and what is around it, None if there is no place for a pointer's step."""
    made = _Body(order, bases)
    steps = made.steps()
    if steps is None:
        return None
    loop = [*made.block(early=True, late=True, others=steps), "b.ne\t1b"]
    return Body(
        (*made.block(early=True), "subs\t{n}, {n}, #1", "b.eq\t2f"),
        tuple(loop),
        tuple(made.block(late=True)),
    )


class _Body:
    def __init__(self, order: Order, bases: Bases) -> None:
        self.order, self.bases = order, bases
        tile = order.tile
        self.pixel = tile.vectors * tile.pixels
        self.weight = self.pixel + tile.pixels * (1 + order.split)
        # (cycle modulo the period, belongs to the next block, word), in order
        self.loads = self._timed(
            {**order.fetches, **{w: t for w, t in order.words.items() if w.direct}}
        )
        self.moves = self._timed({w: t for w, t in order.words.items() if not w.direct})
        self.stepped: dict[str, int] = {}  # cycle in which each pointer is moved

    def _timed(self, times: dict[Word, int]) -> dict[int, list[tuple[Word, bool]]]:
        found: dict[int, list[tuple[Word, bool]]] = {}
        for word, time in times.items():
            entry = (word, time < 0)
            found.setdefault(time % self.order.period, []).append(entry)
        return found

    def steps(self) -> dict[int, list[str]] | None:
        """Integer instructions by cycle."""
        tile, free = self.order.tile, list(self.order.others)
        last = dict.fromkeys(
            ["w", *(f"x{i}" for i in range(len(self.bases.starts)))], -1
        )
        for cycle, there in self.loads.items():
            for word, is_next in there:
                pointer, _ = self._address(word)
                if not is_next:
                    last[pointer] = max(last[pointer], cycle)
        found: dict[int, list[str]] = {}
        for pointer, at in sorted(last.items(), key=lambda item: -item[1]):
            cycle = next((c for c in free if c > at), None)
            if cycle is None:
                return None
            free.remove(cycle)
            size = tile.bytes if pointer == "w" else STEP
            line = f"add\t{{{pointer}}}, {{{pointer}}}, #{size}"
            found.setdefault(cycle, []).append(line)
            self.stepped[pointer] = cycle
        if not free:
            return None
        found.setdefault(free[0], []).append("subs\t{n}, {n}, #1")
        return found

    def block(
        self,
        *,
        early: bool = False,
        late: bool = False,
        others: dict[int, list[str]] | None = None,
    ) -> list[str]:
        """Lines: what is early for the next block, what is late in this one."""
        lines: list[str] = []
        numbers = {cycle: i for i, cycle in enumerate(self.order.fmas)}
        for cycle in range(self.order.period):
            if late and cycle in numbers:
                lines.append(self._fma(numbers[cycle]))
            for word, is_next in self.loads.get(cycle, ()):
                if early if is_next else late:
                    ahead = is_next and late
                    lines.append(self._load(word, ahead, cycle))
            for word, is_next in self.moves.get(cycle, ()):
                if early if is_next else late:
                    lines.append(self._move(word))
            lines += (others or {}).get(cycle, ())
        return lines

    def _simd(self, word: Word) -> int:
        kind, number = self.order.register(word)
        return number + (self.pixel if kind == "x" else self.weight)

    def _fma(self, number: int) -> str:
        tile, order = self.order.tile, self.order
        index, pixel = divmod(number, tile.pixels)
        k, vector = divmod(index, tile.vectors)
        weight = self._simd(Word("w", index, 0))
        x = self._simd(Word("x", pixel, k // 2))
        lane = k % 2 if order.split else k
        target = pixel * tile.vectors + vector
        return f"fmla\tv{target}.4s, v{weight}.4s, v{x}.s[{lane}]"

    def _address(self, word: Word) -> tuple[str, int]:
        if word.kind == "w":
            return "w", 16 * word.index + 8 * word.half
        base, offset = self.bases.places[word.index]
        return f"x{base}", offset + 8 * word.half

    def _load(self, word: Word, ahead: bool, cycle: int) -> str:
        pointer, offset = self._address(word)
        if ahead and cycle <= self.stepped[pointer]:
            offset += self.order.tile.bytes if pointer == "w" else STEP
        at = f"[{{{pointer}}}, #{offset}]" if offset else f"[{{{pointer}}}]"
        if word.direct:
            return f"ldr\td{self._simd(word)}, {at}"
        return f"ldr\tx{GENERAL[self.order.general[word]]}, {at}"

    def _move(self, word: Word) -> str:
        source = GENERAL[self.order.general[word]]
        lane = 0 if self.order.split and word.kind == "x" else word.half
        return f"mov\tv{self._simd(word)}.d[{lane}], x{source}"
