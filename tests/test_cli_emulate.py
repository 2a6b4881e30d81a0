"""gos-fx emulate as a user runs it: real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gos_fx.emulator import tools
from gos_fx.emulator.sysroot import libraries
from gos_fx.errors import EmulatorUnavailable

pytestmark = pytest.mark.qemu

SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void work(long n) {
  __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(n) : : "cc");
}

int main(int argc, char **argv) {
  struct timespec now;
  for (int i = 1; i < argc; ++i) printf("argument %s\n", argv[i]);
  fflush(stdout);
  fputs("complaint\n", stderr);
  if (argc > 1 && argv[1][0] == 'f') return 5;
  if (argc > 1 && argv[1][0] == 'h') for (;;) pause();
  if (argc > 1 && argv[1][0] == 'n') return work(10000000), 0;
  clock_gettime(CLOCK_MONOTONIC, &now);
  work(1000000);
  clock_gettime(CLOCK_MONOTONIC, &now);
  work(3000000);
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 0;
}
"""
KEYS = {"instructions", "l1d_misses", "l2_misses", "writebacks", "cycles"}
KEYS |= {"latency_s", "latency_error", "target", "threads", "region", "program"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        tools.find_qemu()
        tools.find_llvm("llvm-mca")
        libraries()
    except EmulatorUnavailable as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("program")
    (folder / "it.c").write_text(SOURCE)
    target = ["-target", "aarch64-linux-gnu.2.28", "-O2"]
    zig = [sys.executable, "-m", "ziglang", "cc", *target]
    output = ["-o", str(folder / "it")]
    subprocess.run([*zig, str(folder / "it.c"), *output], check=True)
    return str(folder / "it")


def emulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gos_fx", "emulate", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_json(program: str) -> None:
    done = emulate("--target", "arm_a53", "--json", "--", program)
    assert done.returncode == 0 and done.stderr == ""
    found = json.loads(done.stdout)
    assert found.keys() >= KEYS
    assert found["region"] == "clock:1" and found["program"] == [program]
    assert found["instructions"] == pytest.approx(2_000_000, rel=1e-3)
    assert found["latency_s"] > 0 and 0 < found["latency_error"] < found["latency_s"]


def test_table(program: str) -> None:
    done = emulate("--", program, "one", "two")
    assert done.returncode == 0
    assert "arm_a53, 1 thread, between calls 1 and 2 of clock_gettime" in done.stdout
    assert "2.000 M" in done.stdout and "ms +-" in done.stdout
    assert "qemu" in done.stdout and "Raspberry Pi" in done.stdout
    # what the program says goes to the terminal, and not into the table
    assert done.stderr == "argument one\nargument two\ncomplaint\n"


def test_arguments_are_the_programs_own(program: str) -> None:
    given = ["--json", "--", "x", "--target", "-h"]
    done = emulate("--", program, *given)
    assert done.returncode == 0
    assert done.stderr.splitlines()[:-1] == [f"argument {x}" for x in given]


def test_options(program: str) -> None:
    options = ["--target", "raspberry_pi_3b_plus", "--threads", "4"]
    done = emulate(*options, "--region", "clock:2", "--json", "--", program)
    found = json.loads(done.stdout)
    assert found["target"] == "raspberry_pi_3b_plus" and found["threads"] == 4
    assert found["instructions"] == pytest.approx(6_000_000, rel=1e-3)
    assert found["division"] == "evenly"
    table = emulate(*options, "--", program).stdout
    assert "1 of its threads worked, on 4 cores: taken divided evenly" in table


def test_a_program_that_never_looks_at_the_clock(program: str) -> None:
    found = json.loads(emulate("--json", "--", program, "no clock").stdout)
    assert found["region"] == "whole"
    assert found["instructions"] > 20_000_000
    done = emulate("--region", "clock:1", "--", program, "no clock")
    assert done.returncode == 2 and "--region whole" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "arm_a5"), "There is no target 'arm_a5'"),
        (("--target", "host"), "no emulator for host"),
        (("--threads", "9"), "9 threads on 4 cores"),
        (("--region", "loop"), "no region 'loop'"),
        (("--timeout", "-1"), "Give more than 0"),
    ],
)
def test_refusals(program: str, options: tuple[str, ...], message: str) -> None:
    done = emulate(*options, "--", program)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and "Traceback" not in done.stderr


def test_programs_that_fail(program: str) -> None:
    for options in ((), ("--json",)):
        done = emulate(*options, "--", program, "fails")
        assert done.returncode == 2 and done.stdout == ""
        assert "exit status 5" in done.stderr and "complaint" in done.stderr
    done = emulate("--timeout", "0.5", "--json", "--", program, "hangs")
    assert done.returncode == 2 and "took longer than 0.5 s" in done.stderr
    for path in ("/bin/true", "/nowhere", "/"):
        done = emulate("--json", "--", path)
        assert done.returncode == 2 and f"({path})" in done.stderr
    assert emulate("--").returncode == 2


def test_an_interrupt(program: str) -> None:
    """Also to the whole group, as a terminal sends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gos_fx", "emulate", "--", program, "hangs"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "argument hangs\n"
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=30)  # the program holds stderr
    assert process.returncode == 130 and out == ""
    assert "gos-fx: interrupted" in errors


def test_help() -> None:
    done = emulate("--help")
    assert done.returncode == 0 and "PROGRAM" in done.stdout
    listed = [sys.executable, "-m", "gos_fx", "--help"]
    done = subprocess.run(listed, capture_output=True, text=True)
    assert "emulate" in done.stdout


def test_it_is_there_where_nothing_else_is(program: str, tmp_path: Path) -> None:
    """From another directory, with an empty cache."""
    environment = os.environ | {"GOS_FX_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "gos_fx", "emulate", "--json", "--", "./it"],
        cwd=Path(program).parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["instructions"] > 2_000_000
