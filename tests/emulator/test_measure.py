"""Any program measured: regions, cycles, seconds, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gos_fx.emulator.measure import Emulated, measure
from gos_fx.errors import BadOption, ProgramFailed
from gos_fx.targets.target import Target, get

pytestmark = pytest.mark.qemu
A53 = get("arm_a53")
CLOCK = 5  # instructions of the macro `clock`

# 32 SIMD instructions that depend on nothing, often.
LOOP = "mov x2, #{}\n1:\n" + "fmla v0.4s, v30.4s, v31.4s\nfmla v1.4s, v30.4s, v31.4s\n"
LOOP += "".join(f"fmla v{i}.4s, v30.4s, v31.4s\n" for i in range(2, 30))
LOOP += "subs x2, x2, #1\nb.ne 1b\n"
READ = "address x1, data\nmov x2, #{}\n2: ldr x3, [x1], #64\nsubs x2, x2, #1\nb.ne 2b\n"
QUIT = "quit\n.bss\n.balign 4096\ndata: .skip 1 << 23\n"


@pytest.fixture
def emulated(
    needs_qemu: None, needs_llvm: None, build: Callable[..., Path]
) -> Callable[..., Emulated]:
    def run(source: str, target: Target = A53, **options: object) -> Emulated:
        return measure([str(build(source + QUIT))], target, **options)

    return run


def test_cycles_and_seconds_of_arithmetic(emulated) -> None:
    """One 128-bit FMLA a cycle."""
    turns = 20_000
    found = emulated(f"clock\n{LOOP.format(turns)}clock\n")
    assert found.region == "clock:1" and found.target == "arm_a53"
    assert found.instructions == 1 + 32 * turns + CLOCK
    assert found.l1d_misses == found.l2_misses == found.writebacks == 0
    assert found.l3_misses is None
    assert found.cycles == pytest.approx(30 * turns, rel=0.1)
    fit = A53.emulation.fit(1)
    seconds = fit.issue * found.cycles / A53.machine.clock_hz
    assert found.latency_s == pytest.approx(seconds)
    assert found.latency_error == pytest.approx(fit.error * seconds)
    assert found.working_threads == 1 and found.division == "one thread"


def test_lines_cost_time(emulated) -> None:
    lines = 1 << 16
    near = emulated(f"clock\n{READ.format(lines).replace('#64', '#0')}clock\n")
    far = emulated(f"clock\n{READ.format(lines)}clock\n")
    assert near.instructions == far.instructions
    assert far.l2_misses == lines and near.l2_misses == 1
    more = A53.emulation.fit(1).line_s * (lines - 1)
    assert far.latency_s - near.latency_s == pytest.approx(more)


def test_a_faster_clock(emulated) -> None:
    source = f"clock\n{LOOP.format(1000)}clock\n"
    slow, fast = emulated(source), emulated(source, get("raspberry_pi_3b_plus"))
    assert slow.cycles == fast.cycles
    assert slow.latency_s / fast.latency_s == pytest.approx(1.4 / 1.2, rel=1e-2)


def test_three_levels(emulated) -> None:
    source = f"{READ.format(65536)}clock\n{READ.format(65536)}clock\n"
    found = emulated(source, get("snapdragon_845"))
    assert (found.l1d_misses, found.l2_misses, found.l3_misses) == (65536,) * 3


def test_threads_divide_the_work_of_one(emulated) -> None:
    source = f"clock\n{LOOP.format(5000)}clock\n"
    one, four = emulated(source), emulated(source, threads=4)
    assert one.cycles == four.cycles and four.division == "evenly"
    ratio = A53.emulation.fit(4).issue / (4 * A53.emulation.fit(1).issue)
    assert four.latency_s / one.latency_s == pytest.approx(ratio)


def test_regions(emulated) -> None:
    source = f"clock\n{LOOP.format(100)}clock\n{LOOP.format(300)}clock\n"
    inside = {"auto": 100, "clock:1": 100, "clock:2": 300}
    for region, turns in inside.items():
        found = emulated(source, region=region)
        assert found.instructions == 1 + 32 * turns + CLOCK
    assert emulated(source, region="whole").region == "whole"


@pytest.mark.parametrize("calls", [0, 1])
def test_the_whole_run_where_no_region_is(emulated, calls: int) -> None:
    source = "clock\n" * calls + LOOP.format(100)
    found = emulated(source)
    assert found.region == "whole"
    assert found.instructions == 1 + 32 * 100 + 3 + CLOCK * calls
    with pytest.raises(ProgramFailed, match="calls clock_gettime 2 times"):
        emulated(source, region="clock:1")


@pytest.mark.parametrize("region", ["", "clock", "clock:0", "clock:x", "marks"])
def test_regions_that_do_not_exist(emulated, region: str) -> None:
    with pytest.raises(BadOption, match="there is no region"):
        emulated("", region=region)


@pytest.mark.parametrize("threads", [0, -1, 5])
def test_cores_that_do_not_exist(emulated, threads: int) -> None:
    with pytest.raises(BadOption, match="on 4 cores"):
        emulated("", threads=threads)


def test_repeats_are_equal(emulated) -> None:
    source = f"clock\n{LOOP.format(1000)}{READ.format(5000)}clock\n"
    assert emulated(source) == emulated(source)
    json.dumps(emulated(source).to_json())


def test_rarely_executed_blocks_take_the_mean(emulated) -> None:
    """They are not timed; all together are below a ten thousandth."""
    rare = "".join(f"add x4, x4, #{i}\nb . + 4\n" for i in range(30))
    without = emulated(f"clock\n{LOOP.format(50_000)}clock\n")
    found = emulated(f"clock\n{rare}{LOOP.format(50_000)}clock\n")
    assert found.instructions - without.instructions == 60
    assert found.cycles == pytest.approx(without.cycles, rel=2e-4)


# What is refused ---------------------------------------------------------------------

ENDS = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <pthread.h>

static void *sleeps(void *nothing) {
  pause();
  return nothing;
}

int main(int argc, char **argv) {
  pthread_t thread;
  switch (argv[1][0]) {
    case 's': fputs("no such weights\n", stderr); return 3;
    case 'k': return raise(SIGKILL);
    case 'v': return *(volatile int *)8;
    case 'a': abort();
    case 'h': for (;;) pause();
    case 'f':
      if (fork() == 0) for (;;) pause();
      for (;;) pause();
    case 't':
      for (int i = 0; i < 300; ++i) pthread_create(&thread, 0, sleeps, 0);
      return 0;
    case 'x': return execl(argv[2], argv[2], (char *)0);
  }
  return 0;
}
"""


@pytest.fixture
def ends(needs_qemu, needs_llvm, build) -> Callable[..., str]:
    """The message about a program that does not end well."""

    def run(how: str, *arguments: str, timeout: float = 60) -> str:
        program = [str(build(ENDS, kind="c")), how, *arguments]
        with pytest.raises(ProgramFailed) as caught:
            measure(program, A53, region="whole", timeout=timeout)
        return str(caught.value)

    return run


def test_a_program_that_fails(ends) -> None:
    message = ends("status")
    assert "exit status 3" in message and "no such weights" in message


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("kill", signal.SIGKILL),
        ("violates", signal.SIGSEGV),
        ("abort", signal.SIGABRT),
    ],
)
def test_a_program_that_is_killed(ends, how: str, name: signal.Signals) -> None:
    assert signal.strsignal(name) in ends(how)


@pytest.mark.parametrize("how", ["hangs", "forks"])
def test_a_program_that_takes_too_long(ends, how: str) -> None:
    started = time.monotonic()
    assert "took longer than 0.5 s" in ends(how, timeout=0.5)
    assert time.monotonic() - started < 20


def test_more_threads_than_are_counted(ends) -> None:
    assert "more than 256 threads" in ends("threads")


def test_a_program_that_becomes_another(ends) -> None:
    assert "replaced itself" in ends("x", "/bin/true")


def test_commas_in_paths(
    emulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qemu's own lists are separated by commas."""
    folder = tmp_path / "a,b=c"
    folder.mkdir()
    monkeypatch.setenv("GOS_FX_CACHE", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert emulated("nop\n", region="whole").instructions == 4


def test_what_is_no_program(needs_qemu, needs_llvm, tmp_path: Path) -> None:
    script, data = tmp_path / "script.sh", tmp_path / "data"
    script.write_text("#!/bin/sh\necho hello\n")
    script.chmod(0o755)
    data.write_bytes(b"\0" * 4096)
    for path, advice in (
        ("/bin/true", "not an executable for 64-bit ARM"),
        (str(script), "not an executable for 64-bit ARM"),
        (str(data), "not an executable for 64-bit ARM"),
        (str(tmp_path), "cannot be read: Is a directory"),
        (str(tmp_path / "nothing"), "no such file"),
    ):
        with pytest.raises(ProgramFailed, match=advice):
            measure([path], A53)


def test_an_arm_program_of_32_bits(needs_qemu, needs_llvm, tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text("void _start(void) { for (;;); }")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "arm-linux-musleabihf"]
    options = ["-nostdlib", "-o", str(tmp_path / "a")]
    subprocess.run([*zig, str(source), *options], check=True)
    with pytest.raises(ProgramFailed, match="not an executable for 64-bit ARM"):
        measure([str(tmp_path / "a")], A53)


INTERRUPTED = """
import sys
from gos_fx.emulator.measure import measure
from gos_fx.targets.target import get
measure(sys.argv[1:], get("arm_a53"), region="whole")
"""


def test_nothing_is_left_running(needs_qemu, needs_llvm, build) -> None:
    """Ctrl-C ends the program and what it started."""
    program = build(ENDS, kind="c")
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(program), "forks"],
        stderr=subprocess.DEVNULL,
    )
    mine = f"{program}\0forks".encode()
    while len(running(mine)) < 3:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.wait(20)
    for _ in range(100):
        if not running(mine):
            return
        time.sleep(0.05)
    assert not running(mine)


def running(arguments: bytes) -> list[int]:
    """Processes with these in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            zombie = b") Z " in (folder / "stat").read_bytes()
        except OSError:
            continue
        if arguments in command and not zombie and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found
