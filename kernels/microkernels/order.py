"""Which cycle does what: a modulo schedule of one block.

Every cycle of the loop either issues a multiply-add, beside which an integer load or
another integer instruction is free, or is a slot, which moves two words into SIMD
registers: from general registers or, for some, from memory. Times are cycles from the
start of the block that an instruction belongs to; negative ones are during the block
before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from gos_fx.kernels.microkernels.deadlines import Window, place
from gos_fx.kernels.microkernels.tile import Tile

# Cycles until others can read what was moved, loaded into a SIMD or a general register.
_MOVED, _DIRECT, _FETCHED = 2, 3, 3
_ADDER = 4  # no load into a SIMD register so many cycles after a multiply-add
_EXTRA = 16  # slots above the bound that are tried
_AHEAD = 16  # multiply-adds between a use of a register and the next one: enough


@dataclass(frozen=True)
class Word:
    """A word of 64 bits on its way into a SIMD register.

    Attributes:
        kind: ``"w"`` or ``"x"``.
        index: the pass of a weight vector, or the pixel.
        half: of the 128 bits.
        direct: loaded from memory into the SIMD register.
    """

    kind: str
    index: int
    half: int
    direct: bool = False


@dataclass(frozen=True)
class Order:
    """A schedule.

    Attributes:
        tile: of what.
        period: cycles of the loop.
        fmas: cycle of each multiply-add, in order of passes and pixels.
        weights: SIMD registers for weights; pass i uses number i modulo this.
        split: the halves of a pixel are in two registers.
        words: when each word goes into its SIMD register.
        fetches: when each word that is not direct is loaded into a general register.
        general: that register's number.
        others: cycles with room for another integer instruction each.
    """

    tile: Tile
    period: int
    fmas: tuple[int, ...]
    weights: int
    split: bool
    words: Mapping[Word, int]
    fetches: Mapping[Word, int]
    general: Mapping[Word, int]
    others: tuple[int, ...]

    def register(self, word: Word) -> tuple[str, int]:
        return _register(word, self.weights, self.split)


def find_order(tile: Tile, others: int, general: int) -> Order:
    """The shortest schedule that is found.

    Args:
        tile: accumulators.
        others: integer instructions of each turn beside the loads and the branch.
        general: general registers for words on their way.
    """
    split = tile.spare >= tile.pixels + 4
    most = tile.passes + 2 * tile.pixels * split
    for idle in range(_EXTRA):  # slots without words: for a load and another each
        room = tile.fmas - 1 + idle - max(0, others - idle)
        direct = max(0, 2 * tile.loads - room)
        if direct > most:
            continue
        for weights in _rotations(tile, split):
            for pattern in _patterns(tile, tile.loads + idle, direct > 0):
                draft = _Draft(tile, pattern, weights, split, direct)
                if (made := draft.order(others, general)) is not None:
                    return made
    raise AssertionError(f"no order of {tile}")


def _rotations(tile: Tile, split: bool) -> list[int]:
    """Numbers of weight registers to try, best first."""
    spare = tile.spare - tile.pixels * split

    def shortest(count: int) -> int:
        return min(tile.passes % count or count, max(4, _AHEAD // tile.pixels))

    counts = range(2, min(spare, tile.passes) + 1)
    tried = 1 if tile.pixels == 1 else 3
    return sorted(counts, key=lambda count: (-shortest(count), count))[:tried]


def _patterns(tile: Tile, slots: int, chained: bool) -> Iterator[tuple[bool, ...]]:
    """Whether each cycle is a slot; the last one never is, it has the branch."""
    period = tile.fmas + slots
    if chained:  # slots four cycles apart: a load in one is not behind a multiply-add
        if tile.pixels == 1:
            yield (True,) * (slots - tile.fmas) + (True, False) * tile.fmas
        for spread, turn in product((True, False), range(4)):
            for residues in ((3, 1, 2, 0), (3, 2, 1, 0)):
                chosen: set[int] = set()
                for residue in residues:
                    chain = [c for c in range(period - 1) if (c + turn) % 4 == residue]
                    wanted = min(slots - len(chosen), len(chain))
                    if spread and wanted:
                        chain = [chain[i * len(chain) // wanted] for i in range(wanted)]
                    chosen |= set(chain[:wanted])
                yield tuple(c in chosen for c in range(period))
        if tile.pixels == 1:
            return
    for phase in range(8):
        pattern: list[bool] = []
        for fma in range(tile.fmas):
            before, now = (
                (8 * i * slots + phase * tile.fmas) // (8 * tile.fmas)
                for i in (fma, fma + 1)
            )
            pattern += [True] * (now - before) + [False]
        yield tuple(pattern)


def _register(word: Word, weights: int, split: bool) -> tuple[str, int]:
    if word.kind == "w":
        return "w", word.index % weights
    return "x", 2 * word.index + word.half if split else word.index


class _Draft:
    """One pattern of multiply-adds and slots, to be filled."""

    def __init__(
        self,
        tile: Tile,
        pattern: Sequence[bool],
        weights: int,
        split: bool,
        direct: int,
    ) -> None:
        self.tile, self.weights, self.split = tile, weights, split
        self.period = len(pattern)
        self.pattern = pattern
        self.fmas = tuple(c for c, is_slot in enumerate(pattern) if not is_slot)
        self.windows = self._windows(direct)
        self.reads = [set(self.fmas[p :: tile.pixels]) for p in range(tile.pixels)]

    def order(self, others: int, general: int) -> Order | None:
        """The pattern filled, or None if something does not fit."""
        words = self._place_words()
        if words is None:
            return None
        numbers, windows = self._fetches(words, general)
        taken = self._taken(words)
        fetches = place(
            self.period,
            [c for c in range(self.period) if taken[c] < 2],
            windows,
            lambda cycle, there, _: not there and not self._loads(words, cycle),
        )
        if fetches is None:
            return None
        for at in fetches.values():
            taken[at % self.period] += 1
        free = tuple(c for c in range(self.period) for _ in range(2 - taken[c]))
        if len(free) < others:
            return None
        return Order(
            self.tile,
            self.period,
            self.fmas,
            self.weights,
            self.split,
            words,
            fetches,
            numbers,
            free,
        )

    def _windows(self, direct: int) -> dict[Word, Window]:
        """The first and the last cycle in which each word may be written."""
        tile, weights = self.tile, self.weights
        pixels, vectors, passes = tile.pixels, tile.vectors, tile.passes
        candidates = passes + 2 * pixels * self.split
        windows: dict[Word, Window] = {}

        def add(word: Word, free: int, wanted: int) -> None:
            free = max(free, -(self.period // 2))
            late = wanted - (_DIRECT if word.direct else _MOVED)
            windows[word] = (free, late)

        def is_direct(number: int) -> bool:
            """So many of the candidates, evenly."""
            return number * direct // candidates != (number + 1) * direct // candidates

        for i in range(passes):
            users = range(i % weights, passes, weights)
            user = users[users.index(i) - 1]
            free = self._fma(user, pixels - 1) + 1 - self.period * (user >= i)
            for half in range(2):
                word = Word("w", i, half, half == 0 and is_direct(i))
                add(word, free, self._fma(i, 0))
        for pixel, half in product(range(pixels), range(2)):
            free = self._fma((2 * half + 2) * vectors - 1, pixel) + 1 - self.period
            number = passes + 2 * pixel + half
            word = Word("x", pixel, half, self.split and is_direct(number))
            add(word, free, self._fma(2 * half * vectors, pixel))
        return windows

    def _fma(self, index: int, pixel: int) -> int:
        return self.fmas[index * self.tile.pixels + pixel]

    def _place_words(self) -> dict[Word, int] | None:
        period, weights, split = self.period, self.weights, self.split

        def fits(cycle: int, there: Sequence[Word], word: Word) -> bool:
            if len(there) == 2:
                return False
            if there and _register(there[0], weights, split) == _register(
                word, weights, split
            ):
                return False
            behind_fma = not self.pattern[cycle - _ADDER]
            if word.direct and (behind_fma or any(w.direct for w in there)):
                return False
            if word.kind == "x" and not split:  # its other half is still being read
                return (cycle + 1) % period not in self.reads[word.index]
            return True

        upper = {
            Word("w", word.index, 1): word
            for word in self.windows
            if word.kind == "w" and word.direct
        }
        slots = [c for c in range(period) if self.pattern[c]]
        return place(period, slots, self.windows, fits, upper)

    def _taken(self, words: Mapping[Word, int]) -> list[int]:
        taken = [0 if is_slot else 1 for is_slot in self.pattern]
        for at in words.values():
            taken[at % self.period] += 1
        taken[-1] += 1  # the branch
        return taken

    def _loads(self, words: Mapping[Word, int], cycle: int) -> bool:
        return any(w.direct and t % self.period == cycle for w, t in words.items())

    def _fetches(
        self, words: Mapping[Word, int], general: int
    ) -> tuple[dict[Word, int], dict[Word, Window]]:
        """General registers in turn, and when each word may be loaded into its own."""
        moved = sorted(
            (w for w in words if not w.direct),
            key=lambda w: (words[w] % self.period, w.kind, w.index),
        )
        count = max(
            range(1, min(general, len(moved)) + 1),
            key=lambda c: (min(len(moved) % c or c, c), c),
        )
        numbers = {word: i % count for i, word in enumerate(moved)}
        windows = {}
        for i, word in enumerate(moved):
            users = range(i % count, len(moved), count)
            user = users[users.index(i) - 1]
            apart = (words[word] - words[moved[user]]) % self.period or self.period
            last = words[word] - _FETCHED
            first = max(words[word] - apart + 1, 1 - self.period)
            windows[word] = (first, last)
        return numbers, windows
