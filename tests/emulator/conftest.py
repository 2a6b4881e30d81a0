"""aarch64 programs made of known instructions, and what the plugin counts in them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gos_fx.emulator import tools
from gos_fx.emulator.counts import Recording, Segment, read_recording
from gos_fx.emulator.plugin import plugin
from gos_fx.emulator.sysroot import libraries
from gos_fx.errors import EmulatorUnavailable

STATIC = ("-target", "aarch64-linux-musl", "-static", "-nostdlib")
GLIBC = ("-target", "aarch64-linux-gnu.2.28", "-O2")
# 32 KB of 4 ways, and 512 KB of 16 ways that all threads share.
A53_CACHES = ((32 << 10, 4, False), (512 << 10, 16, True))

# `clock` is the call that delimits a region. From behind the first to the end of the
# second it adds CLOCK instructions to those in between.
CLOCK = 5
ASSEMBLY = """
.macro clock
  mov x8, #113
  mov x0, #1
  adrp x1, ts
  add x1, x1, :lo12:ts
  svc #0
.endm
.macro mark
  mov x8, #167
  mov w0, #0x7378
  movk w0, #0x676f, lsl #16
  svc #0
.endm
.macro address register, name
  adrp \\register, \\name
  add \\register, \\register, :lo12:\\name
.endm
.macro quit
  mov x8, #94
  mov x0, #0
  svc #0
.endm
.bss
.balign 4096
ts: .skip 4096
.text
.globl _start
_start:
"""


@dataclass(frozen=True)
class Counted:
    """All threads of a region."""

    instructions: int
    misses: tuple[int, ...]
    writebacks: int
    recording: Recording
    stdout: bytes

    def of(self, segment: Segment) -> int:
        """Instructions of one segment."""
        return sum(map(self.recording.instructions, segment.threads.values()))


@pytest.fixture(scope="session")
def needs_qemu() -> None:
    try:
        tools.find_qemu()
        libraries()
        plugin()
    except EmulatorUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def needs_llvm() -> None:
    try:
        tools.find_llvm("llvm-mca")
        tools.find_llvm("llvm-mc")
    except EmulatorUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Source -> executable, each once: C with glibc's threads, or bare assembly."""
    folder = tmp_path_factory.mktemp("programs")

    def make(source: str, options: Sequence[str] = (), kind: str = "S") -> Path:
        if kind == "S":
            source = ASSEMBLY + source
        target = STATIC if kind == "S" else GLIBC
        digest = hashlib.sha256(repr((source, options, kind)).encode()).hexdigest()[:16]
        path = folder / f"{digest}.{kind}"
        if not path.exists():
            path.write_text(source)
            zig = [sys.executable, "-m", "ziglang", "cc", *target, *options]
            done = subprocess.run(
                [*zig, str(path), "-o", str(path.with_suffix(""))],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
        return path.with_suffix("")

    return make


@pytest.fixture(scope="session")
def count(needs_qemu, build, tmp_path_factory) -> Callable[..., Counted]:
    """What the plugin counts in a program: of bare assembly, or a path."""
    folder = tmp_path_factory.mktemp("counts")

    def run(
        program: str | Path,
        *arguments: str,
        region: str = "clock:1",
        caches: Sequence[tuple[int, int, bool]] = A53_CACHES,
        cpu: str = "cortex-a53",
        library: Path | None = None,
        stdin: bytes = b"",
        line: int = 64,
    ) -> Counted:
        if isinstance(program, str):
            program = build(program)
        out = folder / "counts"
        out.unlink(missing_ok=True)
        each = [f"cache={size}:{ways}:{int(all_)}" for size, ways, all_ in caches]
        given = [str(library or plugin()), f"out={out}", f"region={region}"]
        qemu = [str(tools.find_qemu()), "-cpu", cpu, "-L", str(libraries())]
        options = ["-plugin", ",".join([*given, f"line={line}", *each])]
        done = subprocess.run(
            [*qemu, *options, str(program), *arguments],
            input=stdin,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return counted(read_recording(out), region, done.stdout)

    return run


def counted(recording: Recording, region: str, stdout: bytes) -> Counted:
    """The segment that ends at the region's second clock call; all where none does."""
    segments = list(recording.segments)
    if region.startswith("clock:"):
        second = int(region.removeprefix("clock:")) + 1
        ends = (s for s in segments if (s.event, s.number) == ("clock", second))
        segments = list(ends)[:1] or segments
    threads = [one for segment in segments for one in segment.threads.values()]
    return Counted(
        instructions=sum(map(recording.instructions, threads)),
        misses=tuple(map(sum, zip(*(t.misses for t in threads), strict=True))),
        writebacks=sum(t.writebacks for t in threads),
        recording=recording,
        stdout=stdout,
    )
