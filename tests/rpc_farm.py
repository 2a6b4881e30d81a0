"""Real trackers and servers of TVM's RPC on loopback, each in processes of its own.

Run as a program it imports TVM once and forks for each of them, on orders from its
standard input: the servers of ``python -m tvm.exec.rpc_server`` and ``rpc_tracker``,
without their seconds of starting up. ``Farm`` gives the orders.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # of prctl


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Farm:
    """Starts trackers and servers, and ends them."""

    def __init__(self) -> None:
        self._groups: list[int] = []
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _order(self, **order: object) -> tuple[int, int]:
        """Process group and port of what was started."""
        print(json.dumps(order), file=self._process.stdin, flush=True)
        pid, port = json.loads(self._process.stdout.readline())
        self._groups.append(pid)
        return pid, port

    def tracker(self) -> str:
        return f"127.0.0.1:{self._order(kind='tracker')[1]}"

    def server(
        self,
        tracker: str | None,
        key: str,
        folder: Path | None = None,
        file_bytes: int | None = None,
    ) -> tuple[int, str]:
        """Process group and ``"host:port"``; with a tracker, once it is free.

        Args:
            folder: for its temporary files.
            file_bytes: no file of it may be larger.
        """
        pid, port = self._order(
            kind="server",
            tracker=tracker,
            key=key,
            folder=folder and str(folder),
            file_bytes=file_bytes,
        )
        return pid, f"127.0.0.1:{port}"

    def signal(self, group: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)

    def running(self, group: int) -> bool:
        """Whether a process of this group is there, zombies apart."""
        states = (_state(int(path.name)) for path in Path("/proc").glob("[0-9]*"))
        return any(of == group and state not in "ZX" for state, of in states)

    def close(self) -> None:
        for group in self._groups:
            self.signal(group, signal.SIGKILL)
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _state(pid: int) -> tuple[str, int]:
    """State letter and process group; "X" if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "X", 0
    fields = text.rsplit(")", 1)[1].split()
    return fields[0], int(fields[2])


def _serve(order: dict, report: int) -> None:
    from tvm.rpc.server import PopenRPCServerState
    from tvm.rpc.tracker import PopenTrackerServerState

    os.setsid()
    # Nothing outlives the tests, however they end.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    port = free_port()
    if order["kind"] == "tracker":
        state = PopenTrackerServerState("127.0.0.1", port, port + 100, silent=True)
    else:
        if order["file_bytes"] is not None:
            limit = order["file_bytes"]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        if order["folder"] is not None:
            import tempfile

            tempfile.tempdir = order["folder"]
        tracker = order["tracker"]
        address = tracker and (tracker.split(":")[0], int(tracker.split(":")[1]))
        before = _free(address, order["key"]) if address else 0
        state = PopenRPCServerState(
            "127.0.0.1",
            port,
            port + 100,
            tracker_addr=address,
            key=order["key"],
            silent=True,
        )
        while address and _free(address, order["key"]) <= before:
            time.sleep(0.02)
    os.write(report, json.dumps([os.getpid(), state.port]).encode() + b"\n")
    os.close(report)
    while True:
        time.sleep(3600)


def _free(address: tuple[str, int], key: str) -> int:
    """Servers that wait for a session."""
    from tvm.rpc import connect_tracker

    queues = connect_tracker(*address).summary()["queue_info"]
    return queues.get(key, {"free": 0})["free"]


def main() -> None:
    from tvm import rpc  # noqa: F401  (before forking)
    from tvm.rpc import tracker  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    answers = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            os.open(os.devnull, os.O_RDONLY)
            _serve(json.loads(line), answers)


if __name__ == "__main__":
    main()
