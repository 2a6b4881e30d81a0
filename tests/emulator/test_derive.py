"""Targets that users calibrate: files of measurements, and what is made of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gos_fx.emulator import tools
from gos_fx.emulator.calibrate import Constants, Program
from gos_fx.emulator.derive import derive, uncalibrated
from gos_fx.emulator.measurements import count, read_measurements
from gos_fx.errors import BadOption, EmulatorUnavailable, GosError
from gos_fx.targets import get

HEADER = "name,cycles,l2_misses,writebacks,threads,milliseconds\n"
TRUTH = {1: Constants(1.6, 9e-9), 4: Constants(1.1, 15e-9)}
CLOCK = 1.5e9
COUNTS = ((2e7, 3e5, 2e5), (6e7, 1e6, 8e5), (1e8, 2e6, 1e6), (3e8, 2.5e6, 1e6))


def table(threads: tuple[int, ...] = (1, 4), rows: int = 4) -> str:
    """A file of a board that follows the formula."""
    text = "# measured\n" + HEADER
    for n in threads:
        for i, (cycles, misses, writebacks) in enumerate(COUNTS[:rows]):
            lines = misses + writebacks
            ms = 1e3 * TRUTH[n].seconds(Program("", cycles, lines, 1, CLOCK, n))
            text += f"p{i},{cycles},{misses},{writebacks},{n},{ms:.9g}\n"
    return text


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_constants_of_each_number_of_threads(tmp_path: Path) -> None:
    rows = read_measurements(written(tmp_path / "m.csv", table()))
    assert [row.name for row in rows] == 2 * ["p0", "p1", "p2", "p3"]
    assert rows[0].line == 3 and rows[0].lines == 5e5 and rows[4].threads == 4
    board = uncalibrated(get("arm_a53"), "mine", machine={"clock_hz": CLOCK})
    found = derive(board, count(rows, board), "m.csv")
    emulation = found.target.emulation
    assert emulation is not None
    for threads, truth in TRUTH.items():
        fit = emulation.fit(threads)
        assert fit.issue == pytest.approx(truth.issue, rel=1e-6)
        assert fit.line_s == pytest.approx(truth.line_s, rel=1e-6)
        assert fit.error == pytest.approx(0.10, abs=1e-6)  # what programs cannot show
        assert fit.source == "m.csv, 4 programs"
    machine = found.target.machine
    assert machine.dram_bytes_per_s_1 == pytest.approx(64 / 9e-9)
    assert machine.dram_bytes_per_s_all == pytest.approx(64 / 15e-9)
    assert found.target.name == "mine" and machine.clock_hz == CLOCK


def test_threads_without_programs_are_scaled_and_less_certain(tmp_path: Path) -> None:
    rows = read_measurements(written(tmp_path / "m.csv", table((1,))))
    board = uncalibrated(get("arm_a53"), "mine", machine={"clock_hz": CLOCK})
    given = ("dram_bytes_per_s_1",)
    found = derive(board, count(rows, board), "m.csv", given).target
    base, emulation = get("arm_a53").emulation, found.emulation
    assert base is not None and emulation is not None
    old, new = base.fit(4), emulation.fit(4)
    assert new.issue / old.issue == pytest.approx(new.line_s / old.line_s)
    assert new.issue != pytest.approx(old.issue, rel=0.01)
    assert new.error > old.error and "not measured on 4 threads" in new.source
    assert found.machine.dram_bytes_per_s_1 == board.machine.dram_bytes_per_s_1


def test_a_board_of_other_size() -> None:
    base = get("arm_a53")
    sizes = {"cores": 2, "l2_bytes": 1 << 20}
    board = uncalibrated(base, "mine", "My board", 99, sizes)
    assert board.machine == replace(base.machine, cores=2, l2_bytes=1 << 20)
    assert board.tvm["num-cores"] == 2 and board.model_memory_bytes == 99
    assert board.description == "My board"
    for why, arguments in (
        ("not emulated", (get("host"), "mine")),
        ("already", (base, "snapdragon_845")),
        ("is not allowed", (base, "../mine")),
        ("is not allowed", (base, "mine", None, -1)),
    ):
        with pytest.raises(BadOption, match=why):
            uncalibrated(*arguments)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has none"),
        ("milliseconds,threads\n1,1\n", "columns are missing"),
        (HEADER.replace("milliseconds", "ms"), "columns are missing"),
        (HEADER + "a,1,2,3,1\n", "5 cells under 6 columns"),
        (HEADER + "a,1,2,3,1,x\n", "'x' is not a number.*line 2, milliseconds"),
        (HEADER + "a,1,2,3,1,-4\n", "'-4' is not a number"),
        (HEADER + "a,1,2,3,1,inf\n", "'inf' is not a number"),
        (HEADER + "a,1,2,3,1,0\n", "are 0"),
        (HEADER + "a,1,2,3,0,4\n", "'0' threads"),
        (HEADER + "a,1,2,3,1.5,4\n", "'1.5' threads"),
        (HEADER + "a,1,,3,1,4\n", "neither all counts nor a command"),
        ('milliseconds,command\n1,"a\nb"\n', "not CSV|over a line's end"),
        ("milliseconds,command\n1,a 'b\n", "no command"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(BadOption, match=why):
        read_measurements(written(tmp_path / "m.csv", text))


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="No such file"):
        read_measurements(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadOption, match="not UTF-8"):
        read_measurements(tmp_path / "m.csv")


def test_the_busiest_thread_and_the_last_cache_count(tmp_path: Path) -> None:
    header = HEADER.replace("cycles,", "cycles,busiest_cycles,l3_misses,")
    (row,) = read_measurements(written(tmp_path / "m.csv", header + "a,8,3,5,9,1,4,7"))
    assert row.cycles == 12 and row.lines == 6 and row.seconds == pytest.approx(7e-3)
    (row,) = read_measurements(written(tmp_path / "m.csv", header + "a,8,,,9,1,4,7"))
    assert row.cycles == 8 and row.lines == 10


def test_too_few_programs_are_refused(tmp_path: Path) -> None:
    board = uncalibrated(get("arm_a53"), "mine")
    rows = read_measurements(written(tmp_path / "m.csv", table((1, 4), 2)))
    with pytest.raises(BadOption, match=r"2 programs \(p0, p1\) on 1 threads"):
        derive(board, count(rows, board), "m.csv")
    with pytest.raises(BadOption, match="no programs"):
        derive(board, [], "m.csv")
    smaller = uncalibrated(get("arm_a53"), "mine", machine={"cores": 2})
    with pytest.raises(BadOption, match=r"4 threads on 2 cores.*line 5"):
        count(rows, smaller)


# Reads COUNT floats that are STEP apart. Without a C library: links in a moment.
SOURCE = """
static volatile float x[1 << 22];
void _start(void) {
  float sum = 0;
  for (long i = 0, j = 0; i < COUNT; ++i, j = (j + STEP) & ((1 << 22) - 1)) sum += x[j];
  register long status __asm__("x0") = sum != 0, call __asm__("x8") = 93;
  __asm__ volatile("svc 0" : : "r"(status), "r"(call));
}
"""


def program(folder: Path, count: int, step: int) -> Path:
    """An aarch64 executable."""
    source, path = folder / "walk.c", folder / f"walk_{step}"
    source.write_text(SOURCE)
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu"]
    options = ["-O2", "-static", "-nostdlib", f"-DCOUNT={count}", f"-DSTEP={step}"]
    command = [*zig, *options, str(source), "-o", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.mark.qemu
def test_commands_are_counted(tmp_path: Path) -> None:
    """Reads 64 bytes apart miss each time; neighbours once in sixteen."""
    try:
        tools.find_qemu(), tools.find_llvm("llvm-mca")
    except EmulatorUnavailable as error:
        pytest.skip(str(error))
    text = "command,milliseconds,region\n"
    for reads, step in ((400_000, 1), (200_000, 16), (300_000, 4)):
        text += f"{program(tmp_path, reads, step)},5,whole\n"
    rows = read_measurements(written(tmp_path / "m.csv", text))
    board = uncalibrated(get("arm_a53"), "mine", machine={"clock_hz": CLOCK})
    near, far, between = count(rows, board)
    assert near.name == "walk_1" and near.board == "mine" and near.clock_hz == CLOCK
    assert near.lines == pytest.approx(25_000, rel=0.01)
    assert far.lines == pytest.approx(200_000, rel=0.01)
    assert between.lines == pytest.approx(75_000, rel=0.01)
    assert 1e6 < near.cycles < 1e7
    assert near.cycles == pytest.approx(2 * far.cycles, rel=0.01)


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    rows = read_measurements(
        written(tmp_path / "m.csv", "command,milliseconds\n./nowhere 3,5\n")
    )
    with pytest.raises(GosError, match="line 2"):
        count(rows, uncalibrated(get("arm_a53"), "mine"))
