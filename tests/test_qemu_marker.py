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


@pytest.mark.parametrize("lacking", ["qemu-aarch64", "llvm-mca"])
def test_a_machine_without_the_tools(tmp_path: Path, lacking: str) -> None:
    """The tests of the emulator skip where its tools are missing, and so fail in CI."""
    patched = f"""
import shutil
which = shutil.which
shutil.which = lambda name: None if {lacking!r} in name else which(name)
import pytest
raise SystemExit(pytest.main())
"""
    tests = Path(__file__).parent / "emulator" / "test_measure.py"
    chosen = f"{tests}::test_repeats_are_equal"
    options = ["-p", "no:cacheprovider", "-rs", chosen]
    keep = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    for required in ("", "1"):
        run = subprocess.run(
            [sys.executable, "-c", patched, *options],
            env=keep | {"GOS_FX_REQUIRE_QEMU": required},
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        assert ("1 error" if required else "1 skipped") in run.stdout, run.stdout
        assert f"{lacking} " in run.stdout and "apt-get install" in run.stdout
