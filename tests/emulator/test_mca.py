"""Cycles of blocks by llvm-mca: what is counted, and how it is kept."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gos_fx.emulator import tools
from gos_fx.emulator.mca import BlockTimer, is_simd, loaded_words
from gos_fx.errors import EmulatorUnavailable

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("needs_llvm")]

# Instruction, whether it computes on 128 bits, 64-bit words that it loads.
TABLE = """
fmla v0.4s, v1.4s, v2.4s            | yes | 0
fmla v0.4s, v1.4s, v2.s[3]          | yes | 0
fmla v0.2s, v1.2s, v2.2s            | no  | 0
fmla v0.2d, v1.2d, v2.d[1]          | yes | 0
fmul v0.8h, v1.8h, v2.8h            | yes | 0
fadd s0, s1, s2                     | no  | 0
fmadd d0, d1, d2, d3                | no  | 0
faddp v0.4s, v1.4s, v2.4s           | yes | 0
faddp s0, v0.2s                     | no  | 0
fmaxv s0, v1.4s                     | yes | 0
dup v0.4s, w1                       | yes | 0
dup v0.2s, v1.s[0]                  | no  | 0
mov v0.16b, v1.16b                  | yes | 0
mov v0.s[1], v1.s[2]                | no  | 0
umov w0, v1.s[1]                    | no  | 0
movi v0.2d, #0                      | yes | 0
movi d0, #0                         | no  | 0
ext v0.16b, v1.16b, v2.16b, #4      | yes | 0
tbl v0.16b, {v1.16b, v2.16b}, v3.16b | yes | 0
sdot v0.4s, v1.16b, v2.4b[1]        | yes | 0
sxtl2 v0.4s, v1.8h                  | yes | 0
xtn v0.4h, v1.4s                    | yes | 0
aese v0.16b, v1.16b                 | yes | 0
add x0, x1, x2                      | no  | 0
madd x0, x1, x2, x3                 | no  | 0
str q0, [x0]                        | no  | 0
stp q0, q1, [x0]                    | no  | 0
st1 {v0.4s}, [x0]                   | no  | 0
prfm pldl1keep, [x0]                | no  | 0
ldrb w0, [x1]                       | no  | 1
ldrsh x0, [x1]                      | no  | 1
ldr w0, [x1]                        | no  | 1
ldr x0, [x1]                        | no  | 1
ldr x0, 64                          | no  | 1
ldr q0, 64                          | no  | 2
ldr s0, 64                          | no  | 1
ldur x0, [x1, #3]                   | no  | 1
ldr s0, [x1]                        | no  | 1
ldr d0, [x1]                        | no  | 1
ldr q0, [x1]                        | no  | 2
ldr q0, [x1], #16                   | no  | 2
ldr q0, [x1, x2, lsl #4]            | no  | 2
ldur q0, [x1, #1]                   | no  | 2
ldp w0, w1, [x2]                    | no  | 1
ldp x0, x1, [x2]                    | no  | 2
ldpsw x0, x1, [x2]                  | no  | 1
ldp s0, s1, [x2]                    | no  | 1
ldp d0, d1, [x2]                    | no  | 2
ldp q0, q1, [x2]                    | no  | 4
ldnp q0, q1, [x2]                   | no  | 4
ldp q0, q1, [x2], #32               | no  | 4
ldxr x0, [x1]                       | no  | 1
ldxp x0, x1, [x2]                   | no  | 2
ldaxp w0, w1, [x2]                  | no  | 1
ldar x0, [x1]                       | no  | 1
ldadd x0, x1, [x2]                  | no  | 1
ld1 {v0.4s}, [x0]                   | no  | 2
ld1 {v0.2s}, [x0]                   | no  | 1
ld1 {v0.16b, v1.16b}, [x0]          | no  | 4
ld1 {v0.4s, v1.4s, v2.4s, v3.4s}, [x0], #64 | no | 8
ld1 {v30.2d, v31.2d, v0.2d}, [x0]   | no  | 6
ld1 {v0.8b, v1.8b}, [x0]            | no  | 2
ld2 {v0.4s, v1.4s}, [x0]            | no  | 4
ld3 {v0.4s, v1.4s, v2.4s}, [x0]     | no  | 6
ld4 {v0.8h, v1.8h, v2.8h, v3.8h}, [x0] | no | 8
ld4 {v0.2s, v1.2s, v2.2s, v3.2s}, [x0] | no | 4
ld1 {v0.s}[1], [x0]                 | no  | 1
ld1 {v0.d}[1], [x0]                 | no  | 1
ld2 {v0.s, v1.s}[1], [x0]           | no  | 1
ld4 {v0.s, v1.s, v2.s, v3.s}[1], [x0] | no | 2
ld4 {v0.d, v1.d, v2.d, v3.d}[0], [x0] | no | 4
ld1r {v0.4s}, [x0]                  | no  | 1
ld1r {v0.2d}, [x0]                  | no  | 1
ld2r {v0.4s, v1.4s}, [x0]           | no  | 1
ld4r {v0.2d, v1.2d, v2.2d, v3.2d}, [x0] | no | 4
"""
ROWS = [tuple(map(str.strip, row.split("|"))) for row in TABLE.strip().splitlines()]


def assemble(text: str) -> list[bytes]:
    """The code of each instruction."""
    done = subprocess.run(
        [tools.find_llvm("llvm-mc"), "--triple=aarch64", "--mattr=+all"]
        + ["--show-encoding"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"encoding: \[([0-9a-fx,]+)\]", done.stdout)
    return [bytes(int(byte, 16) for byte in one.split(",")) for one in found]


def block(text: str) -> bytes:
    return b"".join(assemble(text))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of this test alone."""
    monkeypatch.setenv("GOS_FX_CACHE", str(tmp_path))
    yield tmp_path / "mca.sqlite"


@pytest.fixture(scope="module")
def disassembled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As llvm-mc writes the instructions of the table."""
    sources = [row[0] for row in ROWS]
    codes = assemble("\n".join(sources))
    listing = BlockTimer("cortex-a55", 19)._disassemble(codes)
    return {source: listing[code] for source, code in zip(sources, codes, strict=True)}


@pytest.mark.parametrize(("source", "simd", "words"), ROWS)
def test_what_an_instruction_does(disassembled, source, simd, words) -> None:
    text = disassembled[source]
    assert (is_simd(text), loaded_words(text)) == (simd == "yes", int(words))


# Sixteen that do not wait for each other, so that only how many are issued matters.
FMLAS = "\n".join(f"fmla v{i}.4s, v30.4s, v31.s[0]" for i in range(16))
HALVES = "\n".join(f"fmla v{i}.2s, v30.2s, v31.2s" for i in range(16))
CHAIN = "\n".join(["fmla v0.4s, v30.4s, v31.4s"] * 8)
LOADS = "\n".join(f"ldr q{i}, [x0, #{16 * i}]" for i in range(8))
ADDS = "\n".join(f"add x{i}, x{i}, #1" for i in range(8))


@pytest.mark.parametrize(
    ("cpu", "source", "cycles", "simd", "words"),
    [
        ("cortex-a55", FMLAS, 16, 16, 0),
        ("cortex-a55", HALVES, 8, 0, 0),
        ("cortex-a55", CHAIN, 32, 8, 0),
        ("cortex-a55", LOADS, 16, 0, 16),
        ("cortex-a55", ADDS, 4, 0, 0),
        ("cortex-a57", FMLAS, 16, 16, 0),
        ("cortex-a57", LOADS, 8, 0, 16),
    ],
)
def test_cycles_of_a_loop(cache, cpu, source, cycles, simd, words) -> None:
    """Steady state, of an A53 with the A55's model. It lets two 128-bit FMLAs and one
    128-bit load go in a cycle, which the counts of SIMD and loaded words correct."""
    code = block(source)
    found = BlockTimer(cpu, 19).cycles([code])[code]
    narrow = (found.simd, found.words) if cpu == "cortex-a55" else ()
    slowest = max(found.model, *narrow, 0)
    assert (found.simd, found.words) == (simd, words)
    assert slowest == pytest.approx(cycles, rel=0.05, abs=0.1)


def test_a_block_costs_the_same_alone_and_among_others(cache) -> None:
    codes = [block(x) for x in (FMLAS, HALVES, CHAIN, LOADS, ADDS, "nop", "svc #0")]
    timer = BlockTimer("cortex-a55", 19)
    alone = {}
    for code in codes:
        alone |= timer.cycles([code])
        cache.unlink()
    assert timer.cycles(codes) == alone


def test_kept_results_are_the_fresh_ones(
    cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [block(FMLAS), block(LOADS), block("ret")]
    fresh = BlockTimer("cortex-a55", 19).cycles(codes)
    with monkeypatch.context() as patch:
        patch.setattr(BlockTimer, "_measure", None)  # nothing is measured again
        assert BlockTimer("cortex-a55", 19).cycles(codes) == fresh
    other = BlockTimer("cortex-a57", 19).cycles(codes)
    assert other[block("ret")].model != fresh[block("ret")].model


@pytest.mark.parametrize(
    "damage",
    [b"this is no database, but a text that is long enough to be taken for one" * 9]
    + [b"SQLite format 3\0" + b"\xff" * 5000],
)
def test_a_damaged_store_is_made_anew(cache, damage: bytes) -> None:
    codes = [block(FMLAS), block(LOADS)]
    fresh = BlockTimer("cortex-a55", 19).cycles(codes)
    cache.write_bytes(damage)
    assert BlockTimer("cortex-a55", 19).cycles(codes) == fresh
    with sqlite3.connect(cache) as database:
        assert database.execute("SELECT count(*) FROM block").fetchone() == (2,)


def test_damage_in_the_middle(cache) -> None:
    """The head is whole: found only when a page is read."""
    adds = [f"add x{i}, x{j}, #{i}" for i in range(20) for j in range(20)]
    codes = assemble("\n".join(adds))
    fresh = BlockTimer("cortex-a55", 19).cycles(codes)
    whole = cache.read_bytes()
    cache.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    assert BlockTimer("cortex-a55", 19).cycles(codes) == fresh


def test_a_store_that_cannot_be_opened(cache) -> None:
    cache.mkdir()
    with pytest.raises(EmulatorUnavailable, match="GOS_FX_CACHE"):
        BlockTimer("cortex-a55", 19).cycles([block("nop")])


WRITER = """
import sys
from gos_fx.emulator.mca import BlockTimer
words = [bytes.fromhex(x) for x in sys.argv[2:]]
timer = BlockTimer("cortex-a55", 19)
for word in words:
    timer.cycles([word])
    timer.cycles(words[:3])
"""


def test_several_processes_write_at_once(cache) -> None:
    codes = assemble("\n".join(f"add x{i}, x{i}, #{i}" for i in range(12)))
    words = [code.hex() for code in codes]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, "-", *words[start:], *words[:start]],
            stderr=subprocess.PIPE,
            text=True,
        )
        for start in (0, 3, 6)
    ]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    with sqlite3.connect(cache) as database:
        assert database.execute("SELECT count(*) FROM block").fetchone() == (12,)


def test_an_unknown_instruction_is_refused_by_name(cache) -> None:
    unknown = bytes.fromhex("ffffffff")
    with pytest.raises(EmulatorUnavailable, match="instruction ffffffff"):
        BlockTimer("cortex-a55", 19).cycles([block("nop") + unknown])


def test_instructions_that_the_model_lacks(cache) -> None:
    """Inside a block they are left out; alone each takes a cycle, and others stay."""
    alone, mixed = (
        block("casp x0, x1, x2, x3, [x4]"),
        block("casp x0, x1, x2, x3, [x4]"),
    )
    mixed += block(ADDS)
    timer = BlockTimer("cortex-a55", 19)
    assert timer.cycles([alone])[alone].model == 1
    found = timer.cycles([mixed, block(ADDS)])
    assert found[mixed].model == pytest.approx(found[block(ADDS)].model, rel=0.05)


MISSING = """
import shutil
from gos_fx.emulator.measure import measure
from gos_fx.errors import EmulatorUnavailable
from gos_fx.targets.target import get
which = shutil.which
shutil.which = lambda name: None if name.startswith("/usr/lib/llvm") else which(name)
try:
    measure(["/bin/true"], get("arm_a53"))
except EmulatorUnavailable as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("lacking", "package"),
    [("qemu-aarch64", "qemu-user"), ("llvm-mca", "llvm-19"), ("llvm-mc", "llvm-19")],
)
def test_what_is_missing_is_named_with_its_package(
    tmp_path: Path, lacking: str, package: str
) -> None:
    """A PATH with all programs but one."""
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*") if Path(folder).is_dir() else ():
            link = tmp_path / program.name
            if program.name.removesuffix("-19") != lacking and not link.is_symlink():
                link.symlink_to(program)
    done = subprocess.run(
        [sys.executable, "-c", MISSING],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert lacking in done.stdout and f"apt-get install {package}" in done.stdout
