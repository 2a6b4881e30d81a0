"""Random accesses in random caches, against a simulator of its own."""

from __future__ import annotations

import random
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytestmark = pytest.mark.qemu
Access = tuple[int, int, bool]  # offset, bytes, whether it stores

# An instruction on the address in x1, and what it touches, in its order.
OPERATIONS: dict[str, list[Access]] = {
    "ldrb w3, [x1]": [(0, 1, False)],
    "strb w3, [x1]": [(0, 1, True)],
    "ldrh w3, [x1]": [(0, 2, False)],
    "ldr w3, [x1]": [(0, 4, False)],
    "str w3, [x1]": [(0, 4, True)],
    "ldr x3, [x1]": [(0, 8, False)],
    "str x3, [x1]": [(0, 8, True)],
    "ldr q3, [x1]": [(0, 8, False), (8, 8, False)],
    "str q3, [x1]": [(0, 8, True), (8, 8, True)],
    "ldp x3, x4, [x1]": [(0, 8, False), (8, 8, False)],
    "stp w3, w4, [x1]": [(0, 4, True), (4, 4, True)],
    "stp q3, q4, [x1]": [(i, 8, True) for i in (0, 8, 16, 24)],
    "ld2 {v0.4s, v1.4s}, [x1]": [(4 * i, 4, False) for i in range(8)],
    "st1 {v0.2d, v1.2d}, [x1]": [(8 * i, 8, True) for i in range(4)],
    "prfm pldl1keep, [x1]": [],
    "nop": [],
}
REGION, LAST, ROUND = 1 << 20, 0xFF, 8  # apart, end of the table, bytes of an entry
# Walks a table of (operation, offset) that it reads from its input.
INTERPRETER = """
    address x9, table
    1: mov x0, #0
    mov x1, x9
    mov x2, #65536
    mov x8, #63
    svc #0
    add x9, x9, x0
    cbnz x0, 1b
    address x10, table
    address x11, data
    adr x12, operations
    clock
    2: ldr x5, [x10], #8
    lsr x6, x5, #32
    cmp x6, #{last}
    b.eq 3f
    add x1, x11, w5, uxtw
    add x7, x12, x6, lsl #3
    br x7
    operations:
    {operations}
    3: clock
    quit
    .bss
    .balign 1 << 20
    table: .skip 1 << 20
    data: .skip 1 << 20
"""


@dataclass
class Level:
    sets: list[OrderedDict[int, bool]]  # line -> dirty, least recently used first
    ways: int
    misses: int = 0


class Simulator:
    """Caches behind each other: least recently used, write-allocate, write-back."""

    def __init__(self, geometry: list[tuple[int, int]], line: int) -> None:
        self.line, self.writebacks = line, 0
        self.levels = [
            Level([OrderedDict() for _ in range(size // ways // line)], ways)
            for size, ways in geometry
        ]

    def access(self, address: int, size: int, store: bool) -> None:
        for line in range(address // self.line, (address + size - 1) // self.line + 1):
            self.look(0, line, store, fetch=True)

    def look(self, i: int, line: int, dirty: bool, fetch: bool) -> None:
        if i == len(self.levels):
            self.writebacks += not fetch
            return
        level = self.levels[i]
        lines = level.sets[line % len(level.sets)]
        if line in lines:
            lines[line] |= dirty
            lines.move_to_end(line)
            return
        gone = lines.popitem(last=False) if len(lines) == level.ways else None
        lines[line] = dirty
        if fetch:
            level.misses += 1
            self.look(i + 1, line, False, True)
        if gone is not None and gone[1]:
            self.look(i + 1, gone[0], True, False)


def steps(rng: random.Random) -> Iterator[tuple[int, int]]:
    """Operation and offset: near the last one, or in a place seen before, or new."""
    seen = [0]
    span = rng.choice((1 << 10, 1 << 13, 1 << 16, 1 << 18))
    for _ in range(1500):
        kind = rng.random()
        if kind < 0.4:
            offset = (seen[-1] + rng.choice((1, 8, 16, 64))) % span
        elif kind < 0.6:
            offset = rng.choice(seen[-40:])
        else:
            offset = rng.randrange(span)
        seen.append(offset)
        yield rng.randrange(len(OPERATIONS)), offset


def geometry(rng: random.Random, line: int) -> list[tuple[int, int]]:
    ways = [rng.choice((1, 2, 3, 4, 8, 16)) for _ in range(rng.randint(1, 3))]
    sets = [2 ** rng.randint(0, 4 + 2 * i) for i in range(len(ways))]
    return [(line * n * w, w) for n, w in zip(sets, ways)]


@pytest.mark.parametrize("seed", range(25))
def test_misses_and_write_backs(count, seed: int) -> None:
    rng = random.Random(seed)
    line = rng.choice((32, 64, 128))
    caches = geometry(rng, line)
    simulator = Simulator(caches, line)
    chosen = list(steps(rng))
    expected = list(OPERATIONS.values())
    table = b""
    for operation, offset in [*chosen, (LAST, 0)]:
        simulator.access(len(table), ROUND, False)
        table += struct.pack("<II", offset, operation)
        for at, size, store in expected[operation] if operation != LAST else ():
            simulator.access(REGION + offset + at, size, store)
    program = INTERPRETER.format(
        last=LAST, operations="\n".join(f"{x}\nb 2b" for x in OPERATIONS)
    )
    found = count(
        program, caches=[(*cache, False) for cache in caches], line=line, stdin=table
    )
    assert found.instructions == len(chosen) * 9 + 4 + 5
    assert found.misses == tuple(level.misses for level in simulator.levels)
    assert found.writebacks == simulator.writebacks
