"""The database of tuned kernels: several writers, killed writers, damaged files."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gos_fx.errors import TuningRecordsUnusable
from gos_fx.kernels.tuning import records as module
from gos_fx.kernels.tuning.records import Records, snapshot
from gos_fx.kernels.tuning.setting import Setting
from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.kernels.tuning.trial import Choice, Trial
from gos_fx.targets import get

SETTING = Setting("target", 1, "version")
SIZES = Sizes.of({"co": 8, "wo": 4}, {"kw": 3})
CHOICE = Choice(SIZES, 1.0, 2.0, 0.1, "emulator", 5.0)
WRITER = """
import sys
from pathlib import Path
from gos_fx.kernels.tuning.records import Records
from gos_fx.kernels.tuning.setting import Setting
from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.kernels.tuning.trial import Trial

path, source, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    sizes = Sizes.of({"co": i + 1}, {})
    trial = Trial(float(i), 0.5, None, float(i))
    Records(path).add("kernel", Setting("target", 1, "version"), source, sizes, trial)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "tuning.sqlite"


@pytest.fixture
def writers(path: Path):
    """Starts processes that write ``count`` trials each, and lets them go at once."""
    started: list[subprocess.Popen[str]] = []

    def start(*sources: str, count: int) -> list[subprocess.Popen[str]]:
        for source in sources:
            command = [sys.executable, "-c", WRITER, str(path), source, str(count)]
            pipe = subprocess.PIPE
            started.append(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            )
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


def count(path: Path, source: str) -> int:
    return len(Records(path).trials("kernel", SETTING, source))


def test_what_is_written_is_read(path: Path) -> None:
    records = Records(path)
    trials = {
        SIZES: Trial(1.5, 0.25, None, 1.25, 2),
        Sizes.of({"co": 4}, {}): Trial(2.5, 0.5, 0.125, 2.5),
        Sizes.of({"co": 5}, {}): Trial(failure="it does not compile"),
    }
    for sizes, trial in trials.items():
        records.add("kernel", SETTING, "emulator", sizes, Trial(9.0))
        records.add("kernel", SETTING, "emulator", sizes, trial)
    assert records.decide("kernel", SETTING, CHOICE, ())
    again = Records(path)
    assert again.trials("kernel", SETTING, "emulator") == trials
    assert again.trials("kernel", SETTING, "host") == {}
    assert again.best("kernel", SETTING) == CHOICE
    assert again.tuned(SETTING) == {"kernel": SIZES}


@pytest.mark.parametrize(
    "other", [{"target": "b"}, {"threads": 2}, {"version": "newer"}], ids=str
)
def test_settings_share_nothing(path: Path, other: dict[str, object]) -> None:
    records = Records(path)
    records.add("kernel", SETTING, "emulator", SIZES, Trial(1.0))
    records.decide("kernel", SETTING, CHOICE, ())
    setting = replace(SETTING, **other)
    assert records.trials("kernel", setting, "emulator") == {}
    assert records.best("kernel", setting) is None
    assert records.tuned(setting) == {}


def test_reading_makes_no_file(path: Path) -> None:
    assert Records(path).best("kernel", SETTING) is None
    assert Records(path).tuned(SETTING) == {}
    assert not path.parent.exists()


def test_a_decision_for_the_default_is_no_size(path: Path) -> None:
    records = Records(path)
    records.decide("kernel", SETTING, CHOICE, ())
    records.decide("kernel", SETTING, replace(CHOICE, sizes=None), ())
    assert records.tuned(SETTING) == {}
    assert records.best("kernel", SETTING).sizes is None


def test_a_stronger_decision_stands(path: Path) -> None:
    records = Records(path)
    assert records.decide("kernel", SETTING, replace(CHOICE, source="analytical"), ())
    assert records.decide("kernel", SETTING, CHOICE, ("analytical",))
    weaker = replace(CHOICE, source="analytical", sizes=None)
    assert not records.decide("kernel", SETTING, weaker, ())
    assert records.best("kernel", SETTING) == CHOICE


def test_two_processes_write_at_once(path: Path, writers) -> None:
    for process in writers("one", "two", count=150):
        assert process.wait(60) == 0
    assert (count(path, "one"), count(path, "two")) == (150, 150)


def test_a_killed_writer_leaves_whole_trials(path: Path, writers) -> None:
    killed, other = writers("killed", "other", count=2000)
    while count(path, "killed") < 20:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(60) == -signal.SIGKILL
    left = Records(path).trials("kernel", SETTING, "killed")
    values = [Trial(float(i), 0.5, None, float(i)) for i in range(len(left))]
    assert sorted(left.values(), key=lambda t: t.seconds) == values
    before = count(path, "other")
    while count(path, "other") == before:  # nobody waits for the dead
        assert other.poll() is None
    Records(path).add("kernel", SETTING, "third", SIZES, Trial(1.0))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def set_aside(path: Path) -> list[Path]:
    """Damaged files, without the logs that belong to them."""
    found = path.parent.glob("*.damaged-*")
    return [kept for kept in found if kept.suffix.split("-")[-1].isdecimal()]


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database, whatever its name" * 100)


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwritten(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(1024)
        file.write(b"\xa5" * (path.stat().st_size - 1024))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def wrong_row(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE choice SET sizes = '[1, 2]'")


@pytest.mark.parametrize("damage", [garbage, half, overwritten, empty, wrong_row])
def test_a_damaged_file_is_set_aside(
    path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    records = Records(path)
    for i in range(200):  # several pages
        records.add("kernel", SETTING, "a", Sizes.of({"co": i + 1}, {}), Trial(1.0))
    records.decide("kernel", SETTING, CHOICE, ())
    damage(path)
    broken = path.read_bytes()
    assert records.tuned(SETTING) == {}
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    (kept,) = set_aside(path)
    assert str(kept) in warning.getMessage()
    assert kept.read_bytes() == broken
    records.decide("kernel", SETTING, CHOICE, ())
    assert Records(path).tuned(SETTING) == {"kernel": SIZES}


def test_writers_that_meet_a_damaged_file_set_it_aside_once(
    path: Path, writers
) -> None:
    path.parent.mkdir()
    garbage(path)
    for process in writers("one", "two", count=30):
        assert process.wait(60) == 0
    assert len(set_aside(path)) == 1
    assert count(path, "one") + count(path, "two") >= 59  # one may have met the old one


def test_a_log_of_an_older_file_is_not_read(path: Path) -> None:
    Records(path).add("kernel", SETTING, "a", SIZES, Trial(1.0))
    path.unlink()
    log = path.with_name(path.name + "-wal")
    log.write_bytes(b"7\x7f\x06\x82" + b"\0" * 100)
    Records(path).add("kernel", SETTING, "b", SIZES, Trial(1.0))
    assert count(path, "a") == 0 and count(path, "b") == 1


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    records = Records(tmp_path / "file" / "tuning.sqlite")
    with pytest.raises(TuningRecordsUnusable, match="GOS_FX_CACHE"):
        records.add("kernel", SETTING, "a", SIZES, Trial(1.0))


def test_a_locked_database_is_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_S", 0.05)
    records = Records(path)
    records.add("kernel", SETTING, "a", SIZES, Trial(1.0))
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TuningRecordsUnusable, match="locked"):
        records.add("kernel", SETTING, "b", SIZES, Trial(1.0))
    assert count(path, "a") == 1  # readers go on
    other.rollback()
    other.close()
    assert not set_aside(path)


def test_a_compilation_goes_on_without_records(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("GOS_FX_CACHE", str(tmp_path))
    assert snapshot(get("arm_a53"), 1) == {}
    assert caplog.records == []
    Records().path.mkdir()
    assert snapshot(get("arm_a53"), 1) == {}
    (warning,) = caplog.records
    assert "default tile sizes" in warning.getMessage()


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"tile": {}}, {"tile": {}, "unroll": []}, {"tile": 1, "unroll": {}}]
    + [{"tile": {"co": x}, "unroll": {}} for x in (0, -1, 1.5, "8", True, None)],
    ids=str,
)
def test_sizes_are_checked(data: object) -> None:
    with pytest.raises(ValueError, match="not sizes"):
        Sizes.from_json(data)


def test_sizes_survive_as_plain_data() -> None:
    assert Sizes.from_json(SIZES.to_json()) == SIZES
