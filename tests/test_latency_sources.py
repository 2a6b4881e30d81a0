"""The script of the error tables: text, JSON, sections."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.latency_sources import SECTIONS, Table, show

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.latency_sources", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_boards(tmp_path: Path) -> None:
    names = ("raspberry_pi_3b_plus", "out_of_order", "snapdragon_845")
    done = run(*names, "-o", str(tmp_path / "errors.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "errors.json").read_text())
    assert tuple(found) == names
    for section in found.values():
        for table in section:
            assert table["rows"] and table["title"] in done.stdout
    summary = found["raspberry_pi_3b_plus"][0]["rows"]
    assert [row["threads"] for row in summary] == [1, 1, 4, 4]
    assert all(row["median %"] <= 5 for row in summary)


def test_an_unknown_section() -> None:
    done = run("no_such_section")
    assert done.returncode == 2
    assert "no section no_such_section" in done.stderr
    assert all(name in done.stderr for name in SECTIONS)


def test_a_table() -> None:
    rows = ({"network": "a", "ms": 1.23456}, {"network": "bb", "note": "x"})
    assert show(Table("Title", rows)).splitlines() == [
        "Title",
        "network     ms  note",
        "a        1.235",
        "bb                 x",
    ]
