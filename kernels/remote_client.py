"""The process that talks to boards, started, asked and ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from typing import IO, Any

from gos_fx.errors import BoardUnavailable

_START_S = 180.0  # it imports TVM and, with it, torch


class Fault(Exception):
    """A job failed.

    Attributes:
        kind: "connect", "disk", "load", "board", "program", as the worker says it,
            or "hung".
        message: what happened.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message


class Worker:
    """A process of ``gos_fx.kernels.remote_worker``; it serves one job at a time.

    Raises:
        BoardUnavailable: TVM's RPC cannot be imported there.
    """

    def __init__(self) -> None:
        # A file, not a pipe: nobody would empty it.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gos_fx.kernels.remote_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # ended together with its children
        )
        self._buffer = b""
        self._finalizer = weakref.finalize(self, _end, self._process, os.getpid())
        try:
            event = self._event(_START_S)
        except Fault as fault:
            raise BoardUnavailable(
                f"the process for boards does not start: {fault.message}"
            ) from fault
        if event.get("failed") == "extra":
            self.end()
            raise BoardUnavailable(
                f"TVM's RPC is not installed: {event['message']}",
                do='pip install "apache-tvm[rpc]" (or the extra rpc of gos_fx)',
            )

    @property
    def group(self) -> int:
        """The process group of it and its children."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be given a job."""
        return self._process.poll() is None

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """What the worker answers to a job.

        Raises:
            Fault: the job failed, or an event took longer than was announced; then
                the process and its children are ended.
        """
        self._send(job)
        within, stage = float(job["connect_s"]), "connect"
        while True:
            event = self._event(within, stage)
            if "failed" in event:
                raise Fault(str(event["failed"]), str(event["message"]))
            if "done" in event:
                answer: dict[str, Any] = event["done"]
                return answer
            within, stage = float(event["within"]), str(event["stage"])

    def end(self) -> None:
        """Kill the process and its children."""
        self._finalizer()
        self._log.close()

    def _send(self, job: dict[str, Any]) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(job).encode() + b"\n")
            pipe.flush()
        except OSError as error:
            raise Fault("board", self._last_words()) from error

    def _event(self, within: float, stage: str = "start") -> dict[str, Any]:
        """The next event.

        Raises:
            Fault: there is none in ``within`` seconds, or the process ended.
        """
        pipe = self._process.stdout
        assert pipe is not None
        deadline = time.monotonic() + within
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not _readable(pipe, left):
                self.end()
                raise Fault("hung", f"no answer in {within:.0f} s (stage {stage})")
            part = os.read(pipe.fileno(), 1 << 16)
            if not part:
                message = self._last_words()
                self.end()
                raise Fault("board", message)
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else "the process for boards ended"


# Of this process, shared by all that use boards; ended with it.
_IDLE: list[Worker] = []
_LOCK = threading.Lock()


def ask(job: dict[str, Any]) -> dict[str, Any]:
    """What a worker answers; one that waits is used, or else a new one started.

    Raises:
        Fault: see :meth:`Worker.ask`.
        BoardUnavailable: no worker can be started.
    """
    with _LOCK:
        worker = _IDLE.pop() if _IDLE else None
    if worker is None or not worker.alive:
        worker = Worker()
    try:
        return worker.ask(job)
    finally:
        if worker.alive:
            with _LOCK:
                _IDLE.append(worker)


def close() -> None:
    """End the processes that wait for jobs."""
    with _LOCK:
        workers = _IDLE.copy()
        _IDLE.clear()
    for worker in workers:
        worker.end()


def _readable(pipe: IO[bytes], seconds: float) -> bool:
    poll = select.poll()  # select() knows only the first 1024 files of a process
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(1e3 * seconds))


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:  # a fork of the process that uses it
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was still to be written
                pipe.close()
