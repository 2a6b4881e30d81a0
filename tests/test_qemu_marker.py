"""With GOS_FX_REQUIRE_QEMU=1 a skipped qemu test fails, so that CI cannot miss it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.qemu
def test_emulated():
    pytest.skip("no emulator")

@pytest.mark.qemu
@pytest.mark.xfail(strict=True)
def test_known():
    assert False

def test_other():
    pytest.skip("no reason of ours")
"""


@pytest.mark.parametrize(
    ("required", "summary"),
    [("", "2 skipped, 1 xfailed"), ("1", "1 failed, 1 skipped, 1 xfailed")],
)
def test_skips(tmp_path: Path, required: str, summary: str) -> None:
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = qemu: emulated\n")
    keep = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        env=keep | {"GOS_FX_REQUIRE_QEMU": required},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert summary in run.stdout, run.stdout
    assert (run.returncode == 0) == (required == "")
    assert ("was skipped: Skipped: no emulator" in run.stdout) == (required == "1")
