"""Executed instructions, of programs in which every one is known."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gos_fx.emulator import plugin as plugin_module

pytestmark = pytest.mark.qemu
CLOCK = 5  # of the macro `clock`: what a region holds beside what is between its calls

# Between two calls of the clock: source, executed instructions.
PROGRAMS = {
    "nothing": ("", 0),
    "straight": ("add x2, x2, #1\n" * 100, 100),
    "longer than a block": (".rept 5000\nadd x2, x2, #1\n.endr", 5000),
    "a loop of one block": ("mov x2, #1000\n1: subs x2, x2, #1\nb.ne 1b", 2001),
    "nested loops": (
        """
        mov x2, #10
        1: mov x3, #20
        2: mov x4, #30
        3: subs x4, x4, #1
        b.ne 3b
        subs x3, x3, #1
        b.ne 2b
        subs x2, x2, #1
        b.ne 1b
        """,
        1 + 10 * (1 + 20 * (1 + 30 * 2 + 2) + 2),
    ),
    # every third turn takes the branch and leaves out two instructions
    "branches": (
        """
        mov x2, #300
        mov x3, #0
        1: add x3, x3, #1
        cmp x3, #3
        b.eq 2f
        nop
        nop
        b 3f
        2: mov x3, #0
        3: subs x2, x2, #1
        b.ne 1b
        """,
        2 + 300 * (3 + 2) + 200 * 3 + 100 * 1,
    ),
    "compare and branch": (
        "mov x2, #50\n1: sub x2, x2, #1\ntbz x2, #0, 2f\nnop\n2: cbnz x2, 1b",
        1 + 50 * 3 + 25,
    ),
    # a function that calls another one through a register
    "calls": (
        """
        mov x20, #40
        1: bl 2f
        subs x20, x20, #1
        b.ne 1b
        b 4f
        2: mov x21, x30
        adr x5, 3f
        blr x5
        nop
        ret x21
        3: nop
        ret
        4:
        """,
        1 + 40 * (3 + 5 + 2) + 1,
    ),
    # the loop's body begins on one page and ends on the next
    "across pages": (
        """
        mov x2, #70
        b 1f
        .balign 4096
        .skip 4096 - 8
        1: nop
        nop
        nop
        subs x2, x2, #1
        b.ne 1b
        """,
        2 + 70 * 5,
    ),
    # one instruction, again and again: the condition is its own
    "self-loop": ("mov x2, #0\n1: cbnz x2, 1b\nadr x3, 2f\nbr x3\n2: nop", 5),
    "conditions without branches": (
        "mov x2, #9\n1: subs x2, x2, #1\ncsel x3, x2, x4, eq\nccmp x3, #0, #0, ne\n"
        "cmp x2, #0\nb.ne 1b",
        1 + 9 * 5,
    ),
    "system calls": ("mov x8, #172\n.rept 7\nsvc #0\n.endr", 8),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_region(count, name: str) -> None:
    source, expected = PROGRAMS[name]
    assert count(f"clock\n{source}\nclock\nquit").instructions == expected + CLOCK


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_whole_program(count, name: str) -> None:
    source, expected = PROGRAMS[name]
    assert count(f"{source}\nquit", region="whole").instructions == expected + 3


def test_regions_between_later_calls(count) -> None:
    source = "\n".join(f"clock\n.rept {n}\nnop\n.endr" for n in (10, 20, 30, 0))
    program = f"{source}\nquit"
    for region, expected in (("clock:1", 10), ("clock:2", 20), ("clock:3", 30)):
        assert count(program, region=region).instructions == expected + CLOCK
    # all segments of a recording together are the whole program
    whole = count(program, region="whole").instructions
    found = count(program, region="clock:2")
    assert whole == 4 * CLOCK + 60 + 3
    assert [found.of(s) for s in found.recording.segments] == [2 * CLOCK + 10, 25, 38]


def test_a_region_that_is_never_reached(count) -> None:
    found = count("clock\nnop\nquit", region="whole")
    assert found.instructions == CLOCK + 4
    recording = count("clock\nnop\nclock\nquit", region="clock:1").recording
    assert [s.event for s in recording.segments] == ["clock", "clock", "exit"]


def test_marks(count) -> None:
    other = "mov x8, #167\nmov x0, #15\nadrp x1, ts\nsvc #0\n"  # PR_SET_NAME
    nops = "nop\n" * 11
    found = count(f"mov x1, #7\nmark\n{nops}{other}mark\nquit", region="marks")
    named = [(s.event, s.number, found.of(s)) for s in found.recording.segments]
    assert named[0] == ("mark", 7, 1 + 4)
    assert [n[::2] for n in named[1:]] == [("mark", 11 + 4 + 4), ("exit", 3)]


def test_code_that_changes_itself(count) -> None:
    """`add #1` at 2: becomes `add #2`; the same place holds two blocks."""
    program = """
        mov x8, #226
        adrp x0, 2f
        mov x1, #4096
        mov x2, #7
        svc #0
        mov x20, #2
        clock
        1: mov x3, #0
        .rept 10
        add x3, x3, #0
        .endr
        b 2f
        .balign 4096
        2: add x3, x3, #1
        b 3f
        3: ldr w4, 4f
        adrp x5, 2b
        str w4, [x5]
        ic ivau, x5
        dsb ish
        isb
        subs x20, x20, #1
        b.ne 1b
        clock
        sub x0, x3, #2
        mov x8, #94
        svc #0
        4: add x3, x3, #2
    """
    assert count(program).instructions == 2 * (12 + 2 + 8) + CLOCK


def test_the_same_code_in_many_places(count) -> None:
    places, turns = 4000, 3
    program = f"""
        mov x20, #{turns}
        clock
        1:
        .rept {places}
        nop
        b . + 4
        .endr
        subs x20, x20, #1
        b.eq 2f
        address x21, 1b
        br x21
        2: clock
        quit
    """
    found = count(program)
    assert found.instructions == turns * (2 * places + 2) + (turns - 1) * 3 + CLOCK
    assert len(found.recording.code) < 20


def test_zig_builds_the_same_plugin(
    count, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no other compiler."""
    source = """
        address x1, data
        clock
        mov x2, #4000
        1: ldr q0, [x1]
        str q0, [x1, #16]
        add x1, x1, #48
        subs x2, x2, #1
        b.ne 1b
        clock
        quit
        .bss
        .balign 4096
        data: .skip 1 << 20
    """
    compilers = plugin_module._compilers()
    assert "ziglang" in compilers[-1]
    found = []
    for compiler in (compilers[-1], compilers[0]):
        monkeypatch.setattr(plugin_module, "_compilers", lambda c=compiler: [c])
        folder = tmp_path / str(len(found))
        folder.mkdir()
        plugin_module._compile(folder)
        one = count(source, library=folder / "plugin.so")
        found.append((one.instructions, one.misses, one.writebacks))
    assert found[0] == found[1] and found[0][0] == 1 + 4000 * 5 + CLOCK


def test_the_plugin_refuses_other_options(needs_qemu, tmp_path: Path) -> None:
    for bad in (
        "cache=32768:4",
        "cache=32768:0:0",
        "cache=1000:4:0",
        "cache=49152:4:0",  # 192 sets
        "line=48",
        "region=clock:0",
        "region=twice",
        "colour=red",
    ):
        options = f"{plugin_module.plugin()},out={tmp_path / 'out'},{bad}"
        done = subprocess.run(
            ["qemu-aarch64", "-plugin", options, "/bin/true"],
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0 and f"bad option {bad}" in done.stderr
