"""The command gos-fx calibrate, and the target that it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gos_fx.targets.files import load_target

CSV = """\
# a board that is twice as fast as its base
name,cycles,l2_misses,writebacks,threads,milliseconds
a,20000000,337000,195000,1,11.4
b,57000000,1327000,864000,1,39.9
c,64000000,1442000,905000,1,44.5
d,109000000,1863000,812000,1,62.6
e,215000000,991000,496000,1,90.7
"""
MODEL = """
from torch import nn

net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU())
"""


def gos_fx(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gos_fx", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"COLUMNS": "120"},
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "measured.csv").write_text(CSV)
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


MAKE = ("calibrate", "measured.csv", "--base", "arm_a53", "--name", "my_board")
MAKE += ("--clock-hz", "1.5e9", "-o", "my_board.json")


def test_calibrate_and_use(folder: Path) -> None:
    done = gos_fx(folder, *MAKE, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    one, four = found["fits"]
    assert (one["threads"], four["threads"]) == (1, 4)
    assert one["calibration"]["median"] < 0.06 and one["calibration"]["tau"] == 1.0
    assert [p["name"] for p in one["calibration"]["programs"]] == list("abcde")
    assert four["calibration"] is None and four["error"] > one["error"]
    target = load_target(folder / "my_board.json")
    assert target.name == "my_board" and target.machine.clock_hz == 1.5e9
    assert target.emulation is not None
    assert target.emulation.fit(1).issue == one["issue"]
    used = gos_fx(
        folder,
        *("profile", "model.py:net", "--target", "my_board.json"),
        *("--input", "1,1,8,8", "--json"),
    )
    assert used.returncode == 0, used.stderr
    assert json.loads(used.stdout)["target"] == "my_board"


def test_calibrate_as_a_table(folder: Path) -> None:
    done = gos_fx(folder, *MAKE)
    assert done.returncode == 0, done.stderr
    for text in ("my_board, 1 thread\n", "Stated error", "ns per line", "median"):
        assert text in done.stdout.replace("  ", "").replace(" \n", "\n"), text
    assert "not measured on 4 threads" in done.stdout
    assert "my_board.json" in done.stdout


def test_refusals(folder: Path) -> None:
    (folder / "few.csv").write_text("\n".join(CSV.splitlines()[:4]))
    for arguments, why in (
        ((*MAKE[:1], "few.csv", *MAKE[2:]), "two constants are fitted"),
        ((*MAKE[:1], "none.csv", *MAKE[2:]), "cannot be read"),
        ((*MAKE[:3], "host", *MAKE[4:]), "is not emulated"),
        ((*MAKE[:3], "arm_a35", *MAKE[4:]), "Did you mean 'arm_a53'"),
        ((*MAKE[:5], "arm_a53", *MAKE[6:]), "already"),
        ((*MAKE, "--clock-hz", "0"), "machine.clock_hz"),
        ((*MAKE, "--cores", "0"), "machine.cores"),
        ((*MAKE, "-o", "no/x.json"), "cannot be written"),
        (("profile", "model.py:net", "--target", "no.json"), "no.json"),
    ):
        done = gos_fx(folder, *arguments)
        assert done.returncode == 2, done
        assert done.stderr.startswith("gos-fx: ") and why in done.stderr
        assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (folder / "my_board.json").exists()
