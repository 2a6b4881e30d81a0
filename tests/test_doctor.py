"""gos-fx doctor: real programs found, and each kind of trouble said with its remedy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gos_fx import doctor
from gos_fx.doctor import FETCHED_LATER, MISSING, NOT_CONFIGURED, OK
from gos_fx.emulator import tools

STATES = {OK, MISSING, NOT_CONFIGURED, FETCHED_LATER}
TRACKER = ("TVM_TRACKER_HOST", "TVM_TRACKER_PORT", "TVM_TRACKER_KEY")


def run(
    cache: Path, *arguments: str, **variables: str
) -> tuple[int, dict[str, dict[str, str]], str]:
    """Exit status, checks by name, and the text on stderr."""
    environment = {k: v for k, v in os.environ.items() if k not in TRACKER}
    environment |= {"GOS_FX_CACHE": str(cache), "COLUMNS": "120"} | variables
    done = subprocess.run(
        [sys.executable, "-m", "gos_fx", "doctor", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    checks: dict[str, dict[str, str]] = {}
    if "--json" in arguments:
        checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    return done.returncode, checks, done.stdout + done.stderr


def test_this_machine(tmp_path: Path) -> None:
    status, checks, _ = run(tmp_path, "--json")
    assert {check["state"] for check in checks.values()} <= STATES
    missing = [name for name, check in checks.items() if check["state"] == MISSING]
    assert status == (1 if missing else 0)
    assert checks["TVM"]["state"] == checks["zig"]["state"] == OK
    assert "0.27" in checks["TVM"]["found"]
    assert checks["board"]["state"] == NOT_CONFIGURED
    assert "TVM_TRACKER_HOST" in checks["board"]["do"]
    # nothing was fetched: a fresh cache has no runtime yet
    assert checks["aarch64 runtime of TVM"]["state"] == FETCHED_LATER
    for check in checks.values():
        assert check["needed_for"] and (check["state"] == OK or check["found"])
        assert (check["do"] == "") == (check["state"] == OK) or (
            check["state"] == FETCHED_LATER
        )


def test_without_the_programs(tmp_path: Path) -> None:
    """An empty PATH: what is missing is named with the package that has it."""
    status, checks, _ = run(tmp_path, "--json", PATH=str(tmp_path / "bin"))
    assert status == 1
    assert checks["qemu-aarch64"]["state"] == MISSING
    assert "qemu-user" in checks["qemu-aarch64"]["do"]
    assert "qemu-user" in checks["qemu plugins"]["do"]
    assert checks["cache"]["state"] == OK
    status, _, text = run(tmp_path, PATH=str(tmp_path / "bin"))
    assert status == 1
    assert "qemu-aarch64: Debian: apt-get install qemu-user" in text
    assert "missing" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("name", ["llvm-mca", "llvm-mc"])
def test_without_llvm(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    found = doctor._llvm(name)
    assert found.state == MISSING and name in found.found
    assert found.do == "Debian: apt-get install llvm-19"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_wrong_versions(tmp_path: Path) -> None:
    """Another LLVM has other scheduling models; some qemus have no plugins."""
    for name in ("llvm-mca-19", "llvm-mca"):
        program(tmp_path / "bin" / name, "echo 'Debian LLVM version 14.0.6'")
    program(
        tmp_path / "bin" / "qemu-aarch64",
        'case $1 in --version) echo "qemu-aarch64 version 6.2.0";; *) echo -L path;; '
        "esac",
    )
    status, checks, _ = run(tmp_path / "c", "--json", PATH=str(tmp_path / "bin"))
    assert status == 1
    if not Path("/usr/lib/llvm-19/bin/llvm-mca").exists():
        assert checks["llvm-mca"]["state"] == MISSING
        assert "14.0.6" in checks["llvm-mca"]["found"]
    assert checks["qemu-aarch64"]["state"] == OK
    assert "6.2.0" in checks["qemu-aarch64"]["found"]
    assert checks["qemu plugins"]["state"] == MISSING
    assert "without -plugin" in checks["qemu plugins"]["found"]


def test_an_unwritable_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, checks, _ = run(tmp_path / "file" / "cache", "--json")
    assert status == 1
    assert checks["cache"]["state"] == MISSING
    assert "GOS_FX_CACHE" in checks["cache"]["do"]
    assert checks["counting plugin"]["state"] == MISSING


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers each connection with what is in the list; its port."""
    answers: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(4)
                connection.sendall(answers[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1], answers
    server.close()


def board(monkeypatch: pytest.MonkeyPatch, port: int, key: str = "pi") -> doctor.Check:
    values = {"HOST": "127.0.0.1", "PORT": str(port), "KEY": key}
    for name, value in values.items():
        monkeypatch.setenv(f"TVM_TRACKER_{name}", value)
    monkeypatch.setattr(doctor, "_RPC_MODULES", ("json",))
    return doctor._board()


def test_a_tracker(
    monkeypatch: pytest.MonkeyPatch, listener: tuple[int, list[bytes]]
) -> None:
    port, answers = listener
    answers.append((0x2F271).to_bytes(4, "little"))
    assert board(monkeypatch, port).state == OK
    without = board(monkeypatch, port, key="")
    assert without.state == MISSING and "TVM_TRACKER_KEY" in without.do
    monkeypatch.setattr(doctor, "_RPC_MODULES", ("no_such_module",))
    assert "gos_fx[rpc]" in doctor._board().do
    for other in (b"HTTP", b"x", b""):
        answers[0] = other
        found = board(monkeypatch, port)
        assert found.state == MISSING and "no tracker answers" in found.found
        assert "rpc_tracker" in found.do


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "no tracker answers" in board(monkeypatch, port).found
    assert "is not host:port" in board(monkeypatch, 99_999).found


def test_tvm_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong apache-tvm-ffi ends the process that imports it with a signal."""

    def died(command: list[str], seconds: float) -> Any:
        return subprocess.CompletedProcess(command, -11, "", "")

    monkeypatch.setattr(doctor, "_run", died)
    found = doctor._tvm()
    assert found.state == MISSING and "the process died" in found.found
    assert "apache-tvm-ffi" in found.do
    monkeypatch.setattr(doctor, "_run", lambda command, seconds: None)
    assert "it hangs" in doctor._tvm().found
    assert doctor._zig().state == MISSING
