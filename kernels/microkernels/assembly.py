"""A schedule as A64 assembly: prologue, loop and epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gos_fx.emulator.a64 import decode
from gos_fx.emulator.pipeline import Pipeline, block_cycles
from gos_fx.kernels.microkernels.order import Order, Word

STEPS = 4  # of the reduction in a block
STEP = 4 * STEPS  # bytes of a pixel in a block
# General registers for words on their way; LLVM chooses those of pointers and counters.
GENERAL = tuple(range(4, 16))


# Any registers for pointers and counters, to count cycles.
_NAMES = {"w": "x1", "n": "x2", "b": "x3", **{f"x{i}": f"x{16 + i}" for i in range(15)}}


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
    def of(offsets: Sequence[int], width: int, narrowest: int) -> Bases:
        """For pixels at these bytes, which are not negative, and loads of such widths:
        the offset of a load is a multiple of its width, and below 2 ** 12 of them."""
        most = 4095 * narrowest - 3 * STEP
        starts: list[int] = []
        found: dict[int, tuple[int, int]] = {}
        for offset in sorted(set(offsets)):
            for base, start in enumerate(starts):
                apart = offset - start
                if apart % width == 0 and apart <= most:
                    found[offset] = base, apart
                    break
            else:
                found[offset] = len(starts), 0
                starts.append(offset)
        return Bases(tuple(starts), tuple(found[offset] for offset in offsets))


@dataclass(frozen=True)
class Body:
    """Lines of assembly, ``name<tab>operands``.

    Pointers and counters are in braces: ``{x0}``, ... to the pixels, ``{w}`` to the
    weights, ``{n}`` the blocks that are left, ``{b}`` what accumulators start with.

    Attributes:
        prologue: before the loop, which it may leave out.
        loop: at the label ``1``, which it jumps to.
        epilogue: after the loop, at the label ``2``.
        starts: bytes from the first operand to what each of ``{x0}``, ... is at first.
        weights: bytes from the weights to what ``{w}`` is at first.
    """

    prologue: tuple[str, ...]
    loop: tuple[str, ...]
    epilogue: tuple[str, ...]
    starts: tuple[int, ...]
    weights: int

    def cycles(self, blocks: int) -> int:
        """Of the whole, with the operands at hand, on an in-order core."""
        pipeline = Pipeline()
        loops = [self.loop] * (blocks - 1)
        for part in (self.prologue, *loops, self.epilogue):
            for line in part:
                pipeline.issue(decode(line.format(**_NAMES)))
            pipeline.turn()
        return pipeline.free

    def loop_cycles(self) -> float:
        """Of one turn, on an in-order core."""
        return block_cycles([line.format(**_NAMES) for line in self.loop])


def body(order: Order, bases: Bases, tail: int) -> Body:
    """The loop and what is around it.

    Args:
        order: of one block.
        bases: of its pixels.
        tail: steps of the reduction behind the last block, less than a block.
    """
    made = _Body(order, bases)
    epilogue = made.block(STEPS, tail)
    if tail:
        epilogue += made.block(tail, 0, ahead=1)
    return Body(
        (*made.block(0, STEPS, ahead=-1), "subs\t{n}, {n}, #1", "b.eq\t2f"),
        (*made.block(STEPS, STEPS, is_loop=True), "b.ne\t1b"),
        tuple(epilogue),
        tuple(start - STEP for start in bases.starts),
        -order.tile.bytes,
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
        # Integer instructions go where there is room; pointers may be moved anywhere.
        self.stepped = dict(zip(self._pointers(), order.others))
        self.counted = order.others[len(self.stepped)]

    def _timed(self, times: dict[Word, int]) -> dict[int, list[tuple[Word, bool]]]:
        found: dict[int, list[tuple[Word, bool]]] = {}
        for word, time in times.items():
            entry = (word, time < 0)
            found.setdefault(time % self.order.period, []).append(entry)
        return found

    def _pointers(self) -> dict[str, int]:
        """Each with the bytes that it moves in a block."""
        bases = {f"x{i}": STEP for i in range(len(self.bases.starts))}
        return {**bases, "w": self.order.tile.bytes}

    def _others(self, cycle: int) -> list[str]:
        lines = [
            f"add\t{{{name}}}, {{{name}}}, #{size}"
            for name, size in self._pointers().items()
            if self.stepped[name] == cycle
        ]
        return lines + ["subs\t{n}, {n}, #1"] * (self.counted == cycle)

    def block(
        self, this: int, following: int, *, is_loop: bool = False, ahead: int = 0
    ) -> list[str]:
        """Lines that a block has in its own time, and the following one by then.

        Args:
            this, following: how many of their steps are done.
            is_loop: with the instructions that move pointers and count.
            ahead: blocks from the pointers to this block.
        """
        lines: list[str] = []
        numbers = {cycle: i for i, cycle in enumerate(self.order.fmas)}
        for cycle in range(self.order.period):
            number = numbers.get(cycle, self.order.tile.fmas)
            if self._step_of_fma(number) < this:
                lines.append(self._fma(number))
            for word, is_next in self.loads.get(cycle, ()):
                left = (following if is_next else this) - self._step(word)
                if left > 0:
                    moved = is_loop and cycle > self.stepped[self._address(word)[0]]
                    blocks = ahead + is_next - moved
                    lines.append(self._load(word, blocks, left))
            for word, is_next in self.moves.get(cycle, ()):
                if (following if is_next else this) > self._step(word):
                    lines.append(self._move(word))
            if is_loop:
                lines += self._others(cycle)
        return lines

    def _step(self, word: Word) -> int:
        """Of the reduction in its block: the first one that needs a word."""
        if word.kind == "w":
            return word.index // self.order.tile.vectors
        return 2 * word.half

    def _step_of_fma(self, number: int) -> int:
        return number // (self.order.tile.pixels * self.order.tile.vectors)

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

    def _load(self, word: Word, blocks: int, left: int) -> str:
        """From so many blocks ahead; pointers are one block behind, so that the offset
        is never negative. A pixel's last step alone is half a word."""
        pointer, offset = self._address(word)
        offset += (1 + blocks) * self._pointers()[pointer]
        at = f"[{{{pointer}}}, #{offset}]" if offset else f"[{{{pointer}}}]"
        is_half = word.kind == "x" and left == 1
        if word.direct:
            return f"ldr\t{'s' if is_half else 'd'}{self._simd(word)}, {at}"
        to = GENERAL[self.order.general[word]]
        return f"ldr\t{'w' if is_half else 'x'}{to}, {at}"

    def _move(self, word: Word) -> str:
        source = GENERAL[self.order.general[word]]
        lane = 0 if self.order.split and word.kind == "x" else word.half
        return f"mov\tv{self._simd(word)}.d[{lane}], x{source}"
