"""The A53's pipeline against cycles measured on the core.

The sequences and their cycles are those of D. Estevez's qsdr-benchmarks
(github.com/daniestevez/qsdr), which runs each on a Cortex-A53.
"""

from __future__ import annotations

import random

import pytest

from gos_fx.emulator.a64 import decode, registers
from gos_fx.emulator.pipeline import Pipeline, block_cycles, version


def cycles(*lines: str) -> int:
    """From the first issue to the end of the last one."""
    pipeline = Pipeline()
    ops = [decode(line.replace(" ", "\t", 1)) for line in lines]
    return max(pipeline.issue(op) + op.cycles for op in ops)


MEASURED = [
    (2, ["ldr d0, [x0]", "fadd v1.4s, v1.4s, v1.4s"]),
    (2, ["fadd v1.4s, v1.4s, v1.4s", "ldr d0, [x0]"]),
    (2, ["ldr x0, [x1]", "fadd v0.4s, v0.4s, v0.4s"]),
    (1, ["fadd v0.4s, v0.4s, v0.4s", "ldr x0, [x1]"]),
    (1, ["ldr d0, [x1]", "mov v1.d[1], x0"]),
    (1, ["mov v1.d[1], x0", "ldr d0, [x1]"]),
    (2, ["ldr d0, [x1]", "mov v0.d[1], x0"]),
    (2, ["ld1 { v0.d }[0], [x1]", "mov v1.d[1], x0"]),
    (2, ["mov v1.d[1], x0", "ld1 { v0.d }[0], [x1]"]),
    (2, ["fadd v0.4s, v0.4s, v0.4s", "str q1, [x0]"]),
    (2, ["str q1, [x0]", "fadd v0.4s, v0.4s, v0.4s"]),
    (2, ["ldr d0, [x0]", "str q1, [x0]"]),
    (2, ["mov v0.d[1], x0", "str q1, [x1]"]),
    (2, ["str q1, [x1]", "mov v0.d[1], x0"]),
    (2, ["ldr d0, [x0]", "str d1, [x0]"]),
    (1, ["fadd v0.4s, v0.4s, v0.4s", "str x0, [x1]"]),
    (2, ["str x0, [x1]", "fadd v0.4s, v0.4s, v0.4s"]),
    (2, ["fadd v0.4s, v0.4s, v0.4s", "mov x0, v1.d[0]"]),
    (2, ["mov x0, v1.d[0]", "fadd v0.4s, v0.4s, v0.4s"]),
    (1, ["fadd v0.2s, v0.2s, v0.2s", "ldr d1, [x0]"]),
    (1, ["ldr d1, [x0]", "fadd v0.2s, v0.2s, v0.2s"]),
    (1, ["mov v0.d[1], x0"]),
    (3, ["mov v0.d[1], x0", "fadd v0.4s, v0.4s, v0.4s"]),
    (1, ["mov v0.d[1], x0", "mov v1.d[1], x1"]),
    (2, ["mov v0.d[0], x0", "mov v0.d[1], x1"]),
    (
        3,
        [
            "mov v0.d[1], x0",
            "mov v1.d[1], x1",
            "mov v2.d[1], x2",
            "mov v3.d[1], x3",
            "fadd v0.4s, v0.4s, v0.4s",
        ],
    ),
    (2, ["ld1 { v0.4s }, [x0]"]),
    (5, ["ld1 { v0.4s }, [x0]", "fadd v0.4s, v0.4s, v0.4s"]),
    (7, ["ld1 { v0.4s, v1.4s }, [x0]", "fadd v1.4s, v1.4s, v1.4s"]),
    (11, ["ld1 { v0.4s, v1.4s, v2.4s, v3.4s }, [x0]", "fadd v3.4s, v3.4s, v3.4s"]),
    (11, ["ld1 { v0.4s, v1.4s, v2.4s, v3.4s }, [x0]", "fadd v2.4s, v3.4s, v2.4s"]),
    (9, ["ld1 { v0.4s, v1.4s, v2.4s, v3.4s }, [x0]", "fadd v2.4s, v2.4s, v2.4s"]),
    (7, ["ldr q0, [x0]", "ldr q1, [x0]", "fadd v1.4s, v1.4s, v1.4s"]),
    (5, ["ldr q0, [x0]", "ldr q1, [x0]", "fadd v0.4s, v0.4s, v0.4s"]),
    (4, ["ldp q0, q1, [x0]"]),
    (11, ["ldp q0, q1, [x0]", "ldp q2, q3, [x0]", "fadd v3.4s, v3.4s, v3.4s"]),
    (4, ["ldr d0, [x0]", "fadd v0.4s, v0.4s, v0.4s"]),
    (2, ["ldp d0, d1, [x0]"]),
    (7, ["ldp d0, d1, [x0]", "ldp d2, d3, [x0]", "fadd v3.4s, v3.4s, v3.4s"]),
    (5, ["ldp d0, d1, [x0]", "ldp d2, d3, [x0]", "fadd v0.4s, v0.4s, v0.4s"]),
    (2, ["st1 { v0.4s }, [x0]", "st1 { v1.4s }, [x0]"]),
    (4, ["st1 { v0.4s, v1.4s, v2.4s, v3.4s }, [x0]"]),
    (2, ["stp q0, q1, [x0]"]),
    (3, ["stp q0, q1, [x0]", "fadd v2.4s, v2.4s, v2.4s"]),
    (2, ["str d0, [x0]", "str d1, [x0]"]),
    (5, ["fadd v0.4s, v0.4s, v31.4s", "fadd v0.4s, v0.4s, v31.4s"]),
    (2, ["add x0, x0, x0", "add x1, x1, x1", "add x2, x2, x2"]),
    (2, ["add x0, x0, x0", "add x1, x1, x1", "add x0, x0, x0", "add x1, x1, x1"]),
]


@pytest.mark.parametrize(("expected", "lines"), MEASURED)
def test_measured_sequences(expected, lines):
    assert cycles(*lines) == expected


# As qsdr-benchmarks has them: a loop that rustc made, and one of four additions.
LOOPS = [
    (
        16,
        "add x9, x1, x2 | add x2, x2, #32 | cmp x2, x3 | ldp q0, q1, [x9] | "
        "fmul v0.4s, v0.4s, v2.s[0] | fmul v1.4s, v1.4s, v2.s[0] | "
        "fadd v0.4s, v0.4s, v3.4s | fadd v1.4s, v1.4s, v3.4s | "
        "stp q0, q1, [x9] | b.ne #-36",
    ),
    (
        5,
        "fadd v0.4s, v0.4s, v0.4s | fadd v1.4s, v1.4s, v1.4s | "
        "fadd v2.4s, v2.4s, v2.4s | fadd v3.4s, v3.4s, v3.4s | add x0, x0, #1 | "
        "cmp x0, x1 | b.ne #-24",
    ),
]


def lines_of(text: str) -> list[str]:
    return [line.strip().replace(" ", "\t", 1) for line in text.split("|")]


@pytest.mark.parametrize(("expected", "text"), LOOPS)
def test_measured_loops(expected, text):
    assert block_cycles(lines_of(text)) == expected


def test_hand_scheduled_kernel():
    """qsdr-benchmarks' saxpy on 64-bit registers issues two instructions each cycle."""
    lines = []
    for read, write, add in ((0, 4, False), (0, 4, True), (4, 0, False), (4, 0, True)):
        for i in range(4):
            if add:
                lines.append(f"fadd v{read + i}.2s, v{read + i}.2s, v30.2s")
                lines.append(f"ldr d{write + i}, [x8, #{8 * i + 8}]")
            else:
                lines.append(f"fmul v{read + i}.2s, v{read + i}.2s, v31.2s")
                lines.append(f"str d{write + i}, [x9, #{8 * i + 8}]")
    assert len(lines) == 32
    assert cycles(*lines) == 16


def test_fused_instructions_are_forwarded_to_the_same_accumulator():
    """Four accumulators hide the addition; a plain reader waits for both stages."""
    fused = [f"fmla\tv{i}.4s, v8.4s, v9.4s" for i in range(4)]
    assert block_cycles(fused) == 4
    assert block_cycles(fused[:1]) == 4
    assert cycles("fmla v0.4s, v8.4s, v9.4s", "fadd v1.4s, v0.4s, v0.4s") == 9


def test_a_vector_load_waits_for_the_adder():
    """ncnn's rule: not in the cycle in which an FMLA enters the adder."""
    fused = [f"fmla v{i}.4s, v30.4s, v31.4s" for i in range(8)]
    assert cycles(*fused, "ldr d29, [x0]") == 8 + 4 + 1
    assert cycles(*fused, "ldr x1, [x0]") == 8
    added = [f"fadd v{i}.4s, v30.4s, v31.4s" for i in range(8)]
    assert cycles(*added, "ldr d29, [x0]") == 9


def test_a_load_of_128_bits_hides_nothing():
    body = [f"fmla\tv{i}.4s, v30.4s, v31.4s" for i in range(16)]
    plain = block_cycles([*body, "b.ne\t#-64"])
    loads = [f"ldr\tq{i}, [x0, #{16 * i}]" for i in (28, 29)]
    assert plain == 16
    assert block_cycles([*loads, *body, "b.ne\t#-72"]) == 16 + 4 + 4  # and the adder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ldp\tq0, q1, [x2, #-32]!", ["v0", "v1", "x2"]),
        ("st1\t{ v4.s }[1], [x1], #4", ["v4", "x1"]),
        ("fmla\tv1.4s, v2.4s, v3.s[2]", ["v1", "v2", "v3"]),
        ("mov\tsp, x29", ["sp", "x29"]),
        ("movi\tv0.2d, #0000000000000000", ["v0"]),
    ],
)
def test_registers(text, expected):
    assert registers(text) == expected


def test_what_is_written_back():
    assert ("x2", 1) in decode("ldr\tq0, [x2], #16").writes
    assert ("x2", 1) in decode("str\tq0, [x2, #16]!").writes
    assert decode("str\tq0, [x2, #16]").writes == ()
    assert ("x30", 1) in decode("bl\t#64").writes


def test_more_instructions_never_take_less():
    rng = random.Random(3)
    pool = [line.replace(" ", "\t", 1) for _, lines in MEASURED for line in lines]
    for _ in range(300):
        block = rng.choices(pool, k=rng.randint(1, 20))
        pipeline = Pipeline()
        ends = []
        for line in block:
            op = decode(line)
            ends.append(pipeline.issue(op))
        assert ends == sorted(ends)  # in order
        assert block_cycles(block) >= len(block) / 2  # two in a cycle at most


def test_version_names_the_rules():
    assert version().startswith("cortex-a53-")
