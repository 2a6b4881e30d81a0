"""What gos_fx needs beside Python packages: what is there, and how to install the rest.

Nothing is downloaded. What a first use fetches by itself is said to be so.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

from gos_fx import config
from gos_fx.emulator import sysroot, tools
from gos_fx.emulator.plugin import plugin
from gos_fx.errors import GosError
from gos_fx.kernels import cross_runtime
from gos_fx.targets.target import board_address

OK, MISSING, NOT_CONFIGURED = "ok", "missing", "not configured"
FETCHED_LATER = "on first use"  # gos_fx fetches it by itself, over the network

_EMULATION = "latencies by emulation, aarch64 programs"
_COMPILING = "compiled code"
_BOARD = "latencies on real boards"
_RPC_MODULES = ("cloudpickle", "psutil", "tornado")  # extra "rpc" of setup.cfg
_TRACKER_MAGIC = 0x2F271  # tvm.rpc.base.RPC_TRACKER_MAGIC
_SECONDS = 3.0  # to wait for a tracker
_IMPORT_SECONDS = 120.0


@dataclass(frozen=True)
class Check:
    """One thing that something needs.

    Attributes:
        state: "ok", "missing", "not configured" or "on first use".
        found: version, place, or what is wrong.
        do: what installs it; empty where nothing is to be done.
    """

    name: str
    state: str
    found: str
    needed_for: str
    do: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def examine() -> tuple[Check, ...]:
    """All checks. Takes some seconds: TVM is imported, the plugin compiled once."""
    return tuple(check() for check in _CHECKS)


def _qemu() -> Check:
    def look() -> str:
        path = tools.find_qemu()
        return f"{tools.qemu_version(path)}, {path}"

    return _found("qemu-aarch64", _EMULATION, look)


def _qemu_plugins() -> Check:
    name, needed = "qemu plugins", "counting instructions and cache lines"
    try:
        path = tools.find_qemu()
    except GosError as error:
        return Check(name, MISSING, "no qemu-aarch64", needed, error.do)
    if "-plugin" in _said([str(path), "--help"]):
        return Check(name, OK, "-plugin is accepted", needed)
    return Check(
        name,
        MISSING,
        f"{path} was built without -plugin",
        needed,
        f"{tools.QEMU_INSTALL} (Debian's has it)",
    )


def _plugin() -> Check:
    return _found("counting plugin", _EMULATION, lambda: f"compiled, {plugin()}")


def _llvm(name: str) -> Check:
    def look() -> str:
        path = tools.find_llvm(name)
        return f"{tools.llvm_version(path)}, {path}"

    return _found(name, "cycles of emulated code", look)


def _zig() -> Check:
    name, install = "zig", "pip install ziglang"
    said = _said([sys.executable, "-m", "ziglang", "version"])
    if said:
        return Check(name, OK, said, _COMPILING)
    return Check(name, MISSING, "python -m ziglang does not run", _COMPILING, install)


def _tvm() -> Check:
    """In a process of its own: a wrong apache-tvm-ffi ends it with a signal."""
    wheels = ("apache-tvm", "apache-tvm-ffi")
    install = "pip install -c constraints.txt apache-tvm apache-tvm-ffi"
    try:
        found = ", ".join(f"{name} {metadata.version(name)}" for name in wheels)
    except metadata.PackageNotFoundError as error:
        return Check("TVM", MISSING, f"no {error.name}", _COMPILING, install)
    code = "import tvm, tvm.relax"
    done = _run([sys.executable, "-c", code], _IMPORT_SECONDS)
    if done is not None and done.returncode == 0:
        return Check("TVM", OK, found, _COMPILING)
    lines = (done.stderr if done is not None else "it hangs").strip().splitlines()
    why = lines[-1] if lines else "the process died"
    return Check(
        "TVM", MISSING, f"{found}: cannot be imported: {why}", _COMPILING, install
    )


def _libraries() -> Check:
    name = "aarch64 C library"
    there = sysroot.libraries_there()
    if there is not None:
        return Check(name, OK, str(there), _EMULATION)
    install = f"Debian: apt-get install {' '.join(sysroot.DEBIAN_PACKAGES)}"
    if all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb")):
        found = "not there yet; apt-get fetches it, without root"
        return Check(name, FETCHED_LATER, found, _EMULATION, f"Or now: {install}")
    return Check(name, MISSING, "not there", _EMULATION, install)


def _runtime() -> Check:
    name, needed = "aarch64 runtime of TVM", "networks and kernels under emulation"
    try:
        there = cross_runtime.runtime_there()
    except metadata.PackageNotFoundError:
        return Check(name, MISSING, "no apache-tvm", needed, "pip install apache-tvm")
    if there is not None:
        return Check(name, OK, str(there), needed)
    found = "not there yet; pip fetches its wheels"
    return Check(name, FETCHED_LATER, found, needed)


def _board() -> Check:
    tracker, key = config.tracker(), config.tracker_key()
    if tracker is None:
        found = "no tracker is named"
        do = "Where you have one: set TVM_TRACKER_HOST, _PORT and TVM_TRACKER_KEY."
        return Check("board", NOT_CONFIGURED, found, _BOARD, do)
    lacking = [name for name in _RPC_MODULES if util.find_spec(name) is None]
    if lacking:
        do = "pip install 'gos_fx[rpc]'"
        return Check("board", MISSING, f"no {', '.join(lacking)}", _BOARD, do)
    try:
        address = board_address(tracker, key or "")
    except GosError as error:
        return Check("board", MISSING, error.what, _BOARD, error.do)
    try:
        _greet(address.host, address.port)
    except (OSError, struct.error) as error:
        found = f"no tracker answers at {tracker}: {error}"
        do = "Start it: python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port 9190"
        return Check("board", MISSING, found, _BOARD, do)
    if key is None:
        do = "Set TVM_TRACKER_KEY to what the board's server is registered under."
        return Check("board", MISSING, f"no key, tracker {tracker}", _BOARD, do)
    return Check("board", OK, f"tracker {tracker}, key {key}", _BOARD)


def _greet(host: str, port: int) -> None:
    """A tracker answers TVM's magic number with the same."""
    with socket.create_connection((host, port), timeout=_SECONDS) as connection:
        connection.settimeout(_SECONDS)
        connection.sendall(struct.pack("<i", _TRACKER_MAGIC))
        answer = connection.recv(4, socket.MSG_WAITALL)
    if struct.unpack("<i", answer)[0] != _TRACKER_MAGIC:
        raise ConnectionError("something else listens there")


def _cache() -> Check:
    name, needed, path = "cache", "what is made once and kept", config.cache_dir()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        do = "Set GOS_FX_CACHE to a directory that can be written."
        return Check(name, MISSING, f"{path}: {error.strerror}", needed, do)
    return Check(name, OK, str(path), needed)


def _found(name: str, needed: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, OK, look(), needed)
    except GosError as error:
        return Check(name, MISSING, error.what, needed, error.do)


def _said(command: list[str]) -> str:
    done = _run(command, _IMPORT_SECONDS)
    return done.stdout.strip() if done is not None and done.returncode == 0 else ""


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str] | None:
    """None where it cannot be started or takes too long."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=Path(tempfile.gettempdir()),  # no module of the working directory
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


_CHECKS: tuple[Callable[[], Check], ...] = (
    _cache,
    _zig,
    _tvm,
    _qemu,
    _qemu_plugins,
    _plugin,
    lambda: _llvm("llvm-mca"),
    lambda: _llvm("llvm-mc"),
    _libraries,
    _runtime,
    _board,
)
