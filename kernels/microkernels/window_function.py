"""A tile of windows, and its code as a function of LLVM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

VECTOR_REGISTERS = 32
# General registers for words on their way; LLVM chooses those of the bases.
GENERAL = tuple(range(4, 16))
WORD = 8  # bytes of a general register, half a vector
# Left to LLVM beside weights in registers: for the bias and a bound, else it would
# store them and load them again.
_LEFT = 2
# The offset of a load is a multiple of its width, below 2 ** 12 of them.
_REACH = 4094 * WORD
_VECTOR = "<4 x float>"


@dataclass(frozen=True)
class WindowTile:
    """What a tile adds up: ``acc[a] += x[offset] * w[k]`` for each ``(a, k)``.

    Attributes:
        inputs: bytes from the first input, and its ``(a, k)``, in the order of loading;
            for the greatest of windows ``k`` is not used.
        outputs: accumulators, each of which has an input.
        weights: vectors of weights; 0: the greatest, without weights; the sum for
            ``sums``.
        resident: the weights are given in registers, else in memory.
        sums: without weights, what the inputs are added to.
    """

    inputs: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    outputs: int
    weights: int
    resident: bool
    sums: bool = False

    @property
    def passing(self) -> int:
        """Registers for vectors that are only there while they are used."""
        return self.first_weight - self.outputs

    @property
    def first_weight(self) -> int:
        """The weights are in the same registers for all tiles of a kernel."""
        if not self.resident:
            return VECTOR_REGISTERS
        return VECTOR_REGISTERS - _LEFT - self.weights


class Bases:
    """Addresses from which the inputs are within reach of a load.

    ``starts`` has their bytes from the first input; ``places`` the base of each input
    and its offset from there.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self.starts: list[int] = []
        self.places: list[tuple[int, int]] = []
        for offset in offsets:
            for base, start in enumerate(self.starts):
                apart = offset - start
                if apart % WORD == 0 and 0 <= apart <= _REACH:
                    self.places.append((base, apart))
                    break
            else:
                self.places.append((len(self.starts), 0))
                self.starts.append(offset)


def function(name: str, tile: WindowTile, bases: Bases, lines: Sequence[str]) -> str:
    """The module of LLVM with this function alone.

    The asm reads nothing that the caller writes, so LLVM may move it as it likes.
    """
    count, resident = tile.outputs, tile.weights * tile.resident
    pointers = [f"%x{i}" for i in range(len(bases.starts))]
    streams = bool(tile.weights) and not tile.resident
    if streams:
        pointers.append("%w")
    outputs = [f"=&{{v{i}}}" for i in range(count)]
    given = [f"{{v{tile.first_weight + i}}}" for i in range(resident)]
    inputs = given + ["r"] * len(pointers)
    clobbers = [f"~{{v{i}}}" for i in range(count, tile.first_weight)]
    clobbers += [f"~{{x{i}}}" for i in GENERAL]
    names = {f"x{i}": f"${count + resident + i}" for i in range(len(bases.starts))}
    names["w"] = f"${count + resident + len(bases.starts)}"
    text = "\\0A".join(
        line.format(**names).replace("\t", "\\09").replace(", #0]", "]")
        for line in lines
    )
    result = "{" + ", ".join([_VECTOR] * count) + "}" if count > 1 else _VECTOR
    weights = [f"%w{i}" for i in range(resident)]
    operands = [f"{_VECTOR} {w}" for w in weights] + [f"ptr {p}" for p in pointers]
    taken = [f"{_VECTOR} {w}" for w in weights] + ["ptr %w"] * streams
    arguments = ", ".join(["ptr %acc", "ptr %x", *taken])
    code = [f"define void @{name}({arguments}) {{"]
    for i, start in enumerate(bases.starts):
        code.append(f"  %x{i} = getelementptr i8, ptr %x, i64 {start}")
    constraints = ",".join([*outputs, *inputs, *clobbers])
    code.append(
        f'  %r = call {result} asm sideeffect "{text}", "{constraints}"'
        f"({', '.join(operands)}) #0"
    )
    for i in range(count):
        value = "%r"
        if count > 1:
            value = f"%r{i}"
            code.append(f"  {value} = extractvalue {result} %r, {i}")
        code.append(f"  %p{i} = getelementptr i8, ptr %acc, i64 {16 * i}")
        code.append(f"  store {_VECTOR} {value}, ptr %p{i}, align 4")
    code += ["  ret void", "}", "attributes #0 = { noduplicate nounwind }", ""]
    return "\n".join(code)
