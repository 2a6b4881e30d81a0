"""What setup.cfg, constraints.txt and the folders say of each other."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_every_package_is_listed(setup_cfg: configparser.ConfigParser) -> None:
    found = set()
    for folder, package in (
        ("gos_fx", "gos_fx"),
        ("passes", "gos_fx.passes"),
        ("kernels", "gos_fx.kernels"),
    ):
        for path in (ROOT / folder).rglob("__init__.py"):
            parts = path.parent.relative_to(ROOT / folder).parts
            found.add(".".join((package, *parts)))
    assert set(lines(setup_cfg["options"]["packages"])) == found


def test_every_folder_of_modules_is_a_package() -> None:
    data = ROOT / "kernels" / "runtime"  # copied into packages, never imported
    for folder in ("gos_fx", "passes", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            assert path.parent == data or (path.parent / "__init__.py").exists(), path


def test_every_requirement_has_an_exact_version(
    setup_cfg: configparser.ConfigParser,
) -> None:
    def name(requirement: str) -> str:
        found = re.match(r"[\w.-]+", requirement)
        assert found, requirement
        return re.sub(r"[-_.]+", "-", found[0]).lower()

    pins = [p for p in lines((ROOT / "constraints.txt").read_text()) if p[0] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    wanted = lines(setup_cfg["options"]["install_requires"])
    for extra in setup_cfg["options.extras_require"].values():
        wanted += lines(extra)
    assert {name(w) for w in wanted} <= {name(p) for p in pins}


def test_the_versions_that_tvm_needs() -> None:
    pins = lines((ROOT / "constraints.txt").read_text())
    for pin in (
        "torch==2.13.0",
        "apache-tvm==0.27.0.post1",
        "apache-tvm-ffi==0.1.14.post1",
    ):
        assert pin in pins


def test_test_files_have_unique_names_and_no_package() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
    assert not list((ROOT / "tests").rglob("__init__.py"))
