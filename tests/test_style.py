"""ruff and mypy are clean."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Checked by mypy --strict: what users import, and what everything is built on. Paths
# below gos_fx/ as it is installed; those that do not exist are left out.
STRICT = (
    "__init__.py",
    "api.py",
    "arguments.py",
    "backend.py",
    "checks.py",
    "cli.py",
    "compiled.py",
    "config.py",
    "doctor.py",
    "emulator",
    "errors.py",
    "instructions",
    "ir",
    "latency",
    "lowered.py",
    "measuring.py",
    "options.py",
    "pipeline.py",
    "points.py",
    "preparation.py",
    "reference",
    "registry.py",
    "result.py",
    "store.py",
    "tables.py",
    "tables_board.py",
    "tables_show.py",
    "tables_tuning.py",
    "targets",
    "tuner.py",
    "tuning.py",
    "tuning_result.py",
    "verbs.py",
    "verbs_board.py",
    "verbs_emulate.py",
    "verbs_show.py",
    "verbs_tuning.py",
)


def checker(name: str) -> list[str]:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (extra test)")
    return [sys.executable, "-m", name]


def test_ruff() -> None:
    run = subprocess.run(
        [*checker("ruff"), "check", "--output-format=concise", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_mypy(tmp_path: Path) -> None:
    """On a copy laid out as the installed package: mypy knows no package_dir."""
    package = tmp_path / "gos_fx"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "gos_fx", package, ignore=ignore)
    shutil.copytree(ROOT / "passes", package / "passes", ignore=ignore)
    shutil.copytree(ROOT / "kernels", package / "kernels", ignore=ignore)
    paths = [str(package / name) for name in STRICT if (package / name).exists()]
    cache = ROOT / ".mypy_cache"
    run = subprocess.run(
        [
            *checker("mypy"),
            f"--config-file={ROOT / 'setup.cfg'}",
            f"--cache-dir={cache}",
            "--follow-imports=silent",
            *paths,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
