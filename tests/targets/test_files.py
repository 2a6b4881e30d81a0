"""Targets of users: files, registration, and records that cannot be."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gos_fx
from gos_fx.errors import BadOption, GosError, UnknownTarget
from gos_fx.targets import get, names
from gos_fx.targets import target as table
from gos_fx.targets.files import load_target, register_target, save_target
from gos_fx.targets.record import target_from_json, target_to_json
from gos_fx.targets.target import Energy

MINE = replace(get("arm_a53"), name="my_board", description="Board of mine")


@pytest.fixture
def registered() -> Iterator[None]:
    """Targets that a test registers are forgotten."""
    known = dict(table._TARGETS._entries)
    yield
    table._TARGETS._entries.clear()
    table._TARGETS._entries.update(known)


@pytest.mark.parametrize("name", names())
def test_a_file_gives_the_target_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    save_target(get(name), path)
    assert load_target(path) == get(name)
    assert gos_fx.load_target(str(path)) == get(name)
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_is_as_good_as_a_name(tmp_path: Path) -> None:
    path = tmp_path / "my_board.json"
    energetic = replace(MINE, energy=Energy(1.0, 1e-11, 1e-10, "measured"))
    save_target(energetic, path)
    found = get(str(path))
    assert found == energetic and pickle.loads(pickle.dumps(found)) == found
    assert "my_board" not in names()


def test_registered_targets_are_listed(registered: None) -> None:
    assert gos_fx.register_target(MINE) is MINE
    assert get("my_board") is MINE and gos_fx.targets()[-1] == "my_board"
    assert register_target(replace(MINE)) == MINE  # the same again
    with pytest.raises(BadOption, match="another target is called 'my_board'"):
        register_target(replace(MINE, description="other"))
    with pytest.raises(BadOption, match="another target is called 'arm_a53'"):
        register_target(replace(get("host"), name="arm_a53"))


def test_registration_refuses_what_is_no_target(registered: None) -> None:
    wrong: Any = "arm_a53"
    with pytest.raises(BadOption, match="str is not a target"):
        register_target(wrong)
    with pytest.raises(BadOption, match=r"machine.*Give a Machine"):
        register_target(replace(MINE, machine=wrong))
    with pytest.raises(BadOption, match="clock_hz"):
        register_target(replace(MINE, machine=replace(MINE.machine, clock_hz=0.0)))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownTarget, match=r"No such file.*nowhere\.json"):
        get(str(tmp_path / "nowhere.json"))
    path = tmp_path / "x.json"
    with pytest.raises(UnknownTarget):
        path.mkdir()
        get(str(path))
    path.rmdir()
    for text, why in (
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not the record"),
        ("3", "not the record"),
        ("{}", "machine"),
        ('{"machine": 3}', "not the record"),
        (" " * 2_000_000, "more than"),
        ('{"machine": {"__class__": "os.system"}}', "__class__"),
    ):
        path.write_text(text)
        with pytest.raises(BadOption, match=why):
            get(str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadOption, match="not JSON"):
        load_target(path)
    with pytest.raises(BadOption, match="cannot be written"):
        save_target(MINE, tmp_path / "no" / "x.json")


def changed(data: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    """A copy in which the field of this dotted name is another."""
    data = json.loads(json.dumps(data))
    *path, last = (int(key) if key.isdecimal() else key for key in where.split("."))
    inner: Any = data
    for key in path:
        inner = inner[key]
    inner[last] = value
    return data


WRONG: tuple[tuple[str, Any, str], ...] = (
    ("name", "../x", "letters, digits"),
    ("name", "", "letters, digits"),
    ("name", 3, "a text"),
    ("name", "-Bx", "letters, digits"),
    ("description", "a\nb", "one line"),
    ("description", "x" * 2000, "a text of at most"),
    ("machine.cores", 0, "from 1"),
    ("machine.cores", 2.5, "a whole number"),
    ("machine.cores", True, "a whole number"),
    ("machine.clock_hz", float("nan"), "a number"),
    ("machine.clock_hz", float("inf"), "a number"),
    ("machine.clock_hz", 10**400, "from 1e"),
    ("machine.clock_hz", -1.4e9, "from 1e"),
    ("machine.clock_hz", "1.4e9", "a number"),
    ("machine.l2_shared", 1, "true or false"),
    ("machine.l2_bytes", 100_000, "ways"),
    ("machine.l2_ways", 3, "ways"),
    ("machine.l3_bytes", 1 << 20, "given where"),
    ("machine.dram_bytes_per_s_1", 0, "from 0"),
    ("machine.simd_bits", 100, "multiple of 32"),
    ("model_memory_bytes", None, "a whole number"),
    ("link_triple", "-o /etc/passwd", "one word"),
    ("tvm", "llvm", "a table"),
    ("tvm", {"kind": "c"}, "llvm"),
    ("tvm.mcpu", "a53 -o x", "one word"),
    ("tvm.keys", ["x"], "a table with the keys"),
    ("tvm.mattr", "+neon", "a list"),
    ("tvm.mattr", ["neon"], "a list"),
    ("tvm.num-cores", 0, "from 1"),
    ("emulation.qemu_cpu", "-plugin", "one word"),
    ("emulation.midr", -1, "from 0"),
    ("emulation.hwcaps", "fp\n\nasimd", "one line"),
    ("emulation.fits", [], "one Fit or more"),
    ("emulation.fits.0.issue", -0.1, "from 0"),
    ("emulation.fits.0.threads", 4, "ascending"),
    ("emulation.fits.1.error", float("nan"), "a number"),
    ("energy", {"static_w": 1, "flop_j": -1, "dram_byte_j": 0, "source": ""}, "from"),
)


@pytest.mark.parametrize(("where", "value", "allowed"), WRONG)
def test_impossible_values_are_refused(where: str, value: Any, allowed: str) -> None:
    data = changed(target_to_json(MINE), where, value)
    with pytest.raises(BadOption) as caught:
        target_from_json(data)
    assert allowed in caught.value.do
    assert caught.value.where.startswith(f"target: {where.split('.')[0]}")


@pytest.mark.parametrize("where", ["machine", "emulation.fits.0", "energy", "zip"])
def test_wrong_kinds_are_refused(where: str) -> None:
    for value in (3, "x", [], {"a": 1}, [{"b": 2}]):
        with pytest.raises(GosError):
            target_from_json(changed(target_to_json(MINE), where, value))


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(changed(target_to_json(MINE), "machine.cores", 0)))
    with pytest.raises(BadOption, match=r"x\.json, target: machine\.cores"):
        get(str(path))
