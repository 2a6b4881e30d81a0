"""Misses and write-backs that follow from the caches' sizes alone."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.qemu
KB, LINE = 1 << 10, 64
L1, L2 = 32 * KB, 512 * KB
SNAPDRAGON = ((64 * KB, 16, False), (256 * KB, 8, False), (2048 * KB, 16, True))
DATA = "quit\n.bss\n.balign 4096\ndata: .skip 1 << 23\n"


def passes(*bodies: str) -> str:
    """Regions one after the other, each with x1 at the data."""
    regions = "".join(f"clock\naddress x1, data\n{body}\n" for body in bodies)
    return f"{regions}clock\n{DATA}"


def walk(size: int, access: str, stride: int = LINE) -> str:
    return f"mov x2, #{size // stride}\n1: {access}\nsubs x2, x2, #1\nb.ne 1b"


def steps(count: int, stride: int, access: str) -> str:
    """One access in each of so many places."""
    each = f"{access}\nadd x1, x1, x4\n" * count
    return f"mov x4, #{stride}\n{each}"


READ = "ldr x3, [x1], #64"
WRITE = "str x3, [x1], #64"


@pytest.mark.parametrize("access", [READ, WRITE, "ldr q0, [x1], #64"])
@pytest.mark.parametrize("size", [4 * KB, L1, 2 * L1, L2, 2 * L2])
def test_one_line_after_the_other(count, size: int, access: str) -> None:
    body = walk(size, access)
    program = passes(body, body)
    lines = size // LINE
    first = count(program, region="clock:1")
    assert first.misses == (lines, lines)
    again = count(program, region="clock:2")
    # all or nothing: the line that is wanted next is the one that went out last
    assert again.misses == (lines if size > L1 else 0, lines if size > L2 else 0)


def test_every_word_of_a_line_is_one_miss(count) -> None:
    body = walk(256 * KB, "ldr w3, [x1], #4", stride=4)
    found = count(passes(body))
    assert found.misses == (256 * KB // LINE,) * 2


@pytest.mark.parametrize(
    ("stride", "ways", "level"),
    [(L1 // 4, 4, 0), (L2 // 16, 16, 1)],
)
@pytest.mark.parametrize("more", [0, 1])
def test_lines_of_one_set(count, stride: int, ways: int, level: int, more: int) -> None:
    body = steps(ways + more, stride, "ldr x3, [x1]")
    again = count(passes(body, body), region="clock:2")
    assert again.misses[level] == (ways + 1 if more else 0)


def test_the_least_recently_used_line_goes(count) -> None:
    """4 ways: 0 1 2 3, then 0 again, then 4 takes the place of 1."""
    stride = L1 // 4
    order = (0, 1, 2, 3, 0, 4)
    fill = "\n".join(f"mov x4, #{i * stride}\nldr x3, [x1, x4]" for i in order)
    for line, missed in ((0, 0), (1, 1), (2, 0), (3, 0), (4, 0)):
        look = f"mov x4, #{line * stride}\nldr x3, [x1, x4]"
        assert count(passes(fill, look), region="clock:2").misses[0] == missed


@pytest.mark.parametrize("lines", [100, 512, 513, 8192, 8193, 10000, 16384])
def test_written_lines_go_back_when_they_are_driven_out(count, lines: int) -> None:
    found = count(passes(walk(lines * LINE, WRITE)))
    assert found.misses == (lines, lines)  # a write brings the line in
    assert found.writebacks == max(0, lines - L2 // LINE)


def test_lines_only_read_do_not_go_back(count) -> None:
    assert count(passes(walk(2 * L2, READ))).writebacks == 0


def test_a_written_line_is_written_back_once(count) -> None:
    write, read = walk(L2 // 2, WRITE), walk(2 * L2, READ)
    other = read.replace("1:", "add x1, x1, #1 << 20\n1:")
    lines = L2 // 2 // LINE
    program = passes(write, other, other)
    assert count(program, region="clock:2").writebacks == lines
    assert count(program, region="clock:3").writebacks == 0


def test_dirty_lines_of_the_first_level_reach_the_second(count) -> None:
    """A line written in L1 alone, driven out of L1 by reads, then out of L2."""
    out_of_l1 = walk(L1, READ).replace("1:", "add x1, x1, #8 << 12\n1:")
    out_of_l2 = walk(L2, READ).replace("1:", "add x1, x1, #1 << 20\n1:")
    program = passes("str x3, [x1]", out_of_l1, out_of_l2)
    assert [count(program, region=f"clock:{i}").writebacks for i in (1, 2, 3)] == [
        0,
        0,
        1,
    ]


# An access, and how many lines of 64 bytes from x1 on it touches.
ACCESSES = {
    "ldrb w3, [x1, #63]": 1,
    "ldrh w3, [x1, #62]": 1,
    "ldurh w3, [x1, #63]": 2,
    "ldr w3, [x1, #60]": 1,
    "ldur w3, [x1, #61]": 2,
    "ldr x3, [x1, #56]": 1,
    "ldur x3, [x1, #57]": 2,
    "ldur x3, [x1, #63]": 2,
    "ldur s3, [x1, #62]": 2,
    "ldur d3, [x1, #60]": 2,
    "ldr q3, [x1, #48]": 1,
    "ldur q3, [x1, #49]": 2,
    "ldur q3, [x1, #56]": 2,
    "ldur q3, [x1, #60]": 2,
    "ldur q3, [x1, #63]": 2,
    "stur q3, [x1, #52]": 2,
    "str q3, [x1, #48]": 1,
    "stur x3, [x1, #60]": 2,
    "strb w3, [x1, #63]": 1,
    "ldp x3, x4, [x1, #48]": 1,
    "ldp x3, x4, [x1, #56]": 2,
    "ldp w3, w4, [x1, #60]": 2,
    "ldp w3, w4, [x1, #56]": 1,
    "ldpsw x3, x4, [x1, #60]": 2,
    "stp x3, x4, [x1, #56]": 2,
    "ldp q3, q4, [x1, #32]": 1,
    "ldp q3, q4, [x1, #48]": 2,
    "stp q3, q4, [x1, #48]": 2,
    "stnp q3, q4, [x1, #48]": 2,
    "ld1 {v0.16b, v1.16b, v2.16b, v3.16b}, [x1]": 1,
    "add x1, x1, #32\nld1 {v0.16b, v1.16b, v2.16b, v3.16b}, [x1]": 2,
    "add x1, x1, #32\nst1 {v0.16b, v1.16b, v2.16b, v3.16b}, [x1]": 2,
    "add x1, x1, #32\nld4 {v0.4s, v1.4s, v2.4s, v3.4s}, [x1]": 2,
    "add x1, x1, #32\nst4 {v0.4s, v1.4s, v2.4s, v3.4s}, [x1]": 2,
    "add x1, x1, #48\nld2 {v0.4s, v1.4s}, [x1], #32": 2,
    "add x1, x1, #60\nld1 {v0.s}[1], [x1]": 1,
    "add x1, x1, #60\nld2 {v0.s, v1.s}[1], [x1]": 2,
    "add x1, x1, #60\nst4 {v0.b, v1.b, v2.b, v3.b}[3], [x1]": 1,
    "add x1, x1, #60\nld1r {v0.4s}, [x1]": 1,
    "add x1, x1, #60\nld3r {v0.4s, v1.4s, v2.4s}, [x1]": 2,
    "ldxr x3, [x1]": 1,
    "ldxp x3, x4, [x1]": 1,
    "ldar x3, [x1]": 1,
    "stlr x3, [x1]": 1,
    "ldxr x3, [x1]\nstxr w4, x3, [x1]\ncbnz w4, . + 4": 1,
    # a hint, not an access; the load that follows is one
    "prfm pldl1keep, [x1]": 0,
    "prfm pstl1strm, [x1]\nldr x3, [x1]": 1,
    "dc cvac, x1": 0,
}


@pytest.fixture(scope="module")
def touched(count) -> dict[str, tuple[int, ...]]:
    """Misses of each access, each on lines of its own."""
    places = "".join(
        f"address x1, data\nadd x1, x1, #{i}, lsl #12\n{access}\nmark\n"
        for i, access in enumerate(ACCESSES)
    )
    found = count(f"mark\n{places}{DATA}", region="marks")
    segments = found.recording.segments[1:-1]
    return {
        access: segment.threads[0].misses
        for access, segment in zip(ACCESSES, segments, strict=True)
    }


@pytest.mark.parametrize("access", ACCESSES)
def test_lines_of_an_access(touched, access: str) -> None:
    assert touched[access] == (ACCESSES[access],) * 2


@pytest.mark.parametrize(
    "access",
    [
        "mov x3, #0\ncas x3, x4, [x1]",
        "ldadd x3, x4, [x1]",
        "swpal w3, w4, [x1]",
        "ldsmax w3, w4, [x1]",
        "stadd x3, [x1]",
        "mov x2, #0\nmov x3, #0\ncasp x2, x3, x4, x5, [x1]",
        "ldapr x3, [x1]",
    ],
)
def test_atomics_of_later_cores(count, access: str) -> None:
    found = count(passes(f".arch armv8.3-a+lse\n{access}"), cpu="cortex-a76")
    assert found.misses == (1, 1)
    assert found.instructions == 2 + len(access.splitlines()) + 5


ONE_LINE = ((LINE, 1, False),)
WRITES = (
    "strb w3, [x1]",
    "str q3, [x1]",
    "stp x3, x4, [x1]",
    "st1 {v0.4s, v1.4s, v2.4s, v3.4s}, [x1]",
    "st1 {v0.s}[2], [x1]",
    "stlr x3, [x1]",
    "ldxr x3, [x1]\nstxr w4, x3, [x1]",
    "ldxp x3, x5, [x1]\nstxp w4, x3, x5, [x1]",
    "dc zva, x1",
)


@pytest.mark.parametrize("access", WRITES)
def test_what_makes_a_line_dirty(count, access: str) -> None:
    """A cache of one line: the next one drives it out."""
    after = f"str x3, [x1, #-64]\n{access}\nldr x3, [x1, #128]"
    found = count(passes(f"add x1, x1, #64\n{after}"), caches=ONE_LINE)
    assert found.writebacks == 2
    assert found.misses == (2 if access.startswith("dc") else 3,)


def test_reads_leave_a_line_clean(count) -> None:
    body = "ldr x3, [x1]\nldxr x3, [x1]\nld1 {v0.4s}, [x1]\nldr x3, [x1, #64]"
    assert count(passes(body), caches=ONE_LINE).writebacks == 0


CLEAR = """
    stp q0, q0, [x1]
    stp q0, q0, [x1, #32]
    add x1, x1, #64
    mov x2, #{}
    1: dc zva, x1
    add x1, x1, #64
    subs x2, x2, #1
    b.ne 1b
"""


@pytest.mark.parametrize("lines", [10, 511, 2048, 16384])
def test_lines_cleared_by_dc_zva(count, lines: int) -> None:
    """As memset does: they are not brought in, but they are there and are dirty."""
    body = CLEAR.format(lines - 1)
    read = walk(lines * LINE, READ)
    program = passes(body, read)
    cleared = count(program, region="clock:1")
    assert cleared.misses == (1, 1)
    # the second level gets a line only when the first one gives it away
    assert cleared.writebacks == max(0, lines - (L1 + L2) // LINE)
    again = count(program, region="clock:2")
    fits = [lines * LINE <= size for size in (L1, L2)]
    assert again.misses == tuple(0 if fit else lines for fit in fits)


@pytest.mark.parametrize(
    ("size", "missed"),
    [
        (64 * KB, (0, 0, 0)),
        (128 * KB, (1, 0, 0)),
        (256 * KB, (1, 0, 0)),
        (512 * KB, (1, 1, 0)),
        (2048 * KB, (1, 1, 0)),
        (4096 * KB, (1, 1, 1)),
    ],
)
def test_three_levels(count, size: int, missed: tuple[int, ...]) -> None:
    body = walk(size, READ)
    program = passes(body, body)
    lines = size // LINE
    one = count(program, caches=SNAPDRAGON, cpu="cortex-a76")
    assert one.misses == (lines,) * 3
    two = count(program, region="clock:2", caches=SNAPDRAGON, cpu="cortex-a76")
    assert two.misses == tuple(lines * m for m in missed)


def test_write_backs_through_three_levels(count) -> None:
    size = 4096 * KB
    body = walk(size, WRITE)
    found = count(passes(body), caches=SNAPDRAGON)
    assert found.writebacks == (size - 2048 * KB) // LINE


def test_other_lines(count) -> None:
    body = walk(16 * KB, "ldr x3, [x1], #8", stride=8)
    for line in (32, 128):
        found = count(passes(body), caches=((8 * KB, 2, False),), line=line)
        assert found.misses == (16 * KB // line,)
