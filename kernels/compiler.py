"""Compilations in processes of their own, started from one that has TVM loaded.

Measurements on this machine are jobs of the same kind.

A crash inside the compiler cannot be caught, so it must not happen in this process; and
loading TVM takes seconds. So one process loads it once, and forks for each job. It ends
when this process does.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

from gos_fx.errors import CompileError
from gos_fx.kernels.compile_key import sources

_POLL = 0.01  # seconds between looks at the children
_STOP = "stop "
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of linux/prctl.h


class Compiler:
    """The process that forks, seen from the one that wants to compile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._waiting: dict[str, tuple[threading.Event, list[int]]] = {}

    def run(self, job: Path, timeout: float | None) -> int:
        """Compile a job of ``gos_fx.kernels.worker``; its exit status, negative where a
        signal ended it. What it said is in the file ``stderr`` of the job.

        Raises:
            CompileError: it took longer than ``timeout`` seconds, or the process that
                forks is gone.
        """
        done, status = threading.Event(), [-signal.SIGKILL]
        name = str(job)
        with self._lock:
            process = self._started()
            self._waiting[name] = (done, status)
            self._say(process, name)
        if not done.wait(timeout):
            with self._lock:
                self._waiting.pop(name, None)
                self._say(process, _STOP + name)
            raise CompileError(f"the compiler took longer than {timeout} s")
        return status[0]

    def _started(self) -> subprocess.Popen[str]:
        alive = self._process is not None and self._process.poll() is None
        if alive and self._owner == os.getpid():
            assert self._process is not None
            return self._process
        self._waiting.clear()  # also in a fork, which must not use its parent's
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gos_fx.kernels.compiler"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is this process's own affair
        )
        arguments = (self._process,)
        threading.Thread(target=self._listen, args=arguments, daemon=True).start()
        return self._process

    def _say(self, process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # then _listen reports its end
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            status, _, name = line.rstrip("\n").partition(" ")
            with self._lock:
                waiting = self._waiting.pop(name, None)
            if waiting is not None:
                waiting[1][0] = int(status)
                waiting[0].set()
        with self._lock:
            if process is self._process:
                for done, _ in self._waiting.values():
                    done.set()
                self._waiting.clear()


COMPILER = Compiler()


def serve() -> None:
    """Fork for each job named on stdin, and say on stdout how it ended."""
    sources()  # before they are loaded
    import torch._export.serde.serialize  # noqa: F401  (takes a second)

    from gos_fx.kernels import link, memory, to_relax, worker  # noqa: F401
    from gos_fx.kernels.importer import program  # noqa: F401

    children: dict[int, str] = {}
    pending = b""
    while True:
        ready, _, _ = select.select([0], [], [], _POLL if children else None)
        if ready:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _obey(line.decode(), children)
        while children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            name = children.pop(pid)
            print(os.waitstatus_to_exitcode(status), name, flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _obey(line: str, children: dict[int, str]) -> None:
    if line.startswith(_STOP):
        for pid, name in children.items():
            if name == line.removeprefix(_STOP):
                os.kill(pid, signal.SIGKILL)
        return
    pid = os.fork()
    if pid:
        children[pid] = line
        return
    status = 1
    try:
        # without whoever forked it, nobody waits for this process
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        null = os.open(os.devnull, os.O_RDWR)
        said = os.open(f"{line}/stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for file, descriptor in ((null, 0), (null, 1), (said, 2)):
            os.dup2(file, descriptor)
        from gos_fx.kernels import stopwatch, worker

        job = Path(line)
        (stopwatch if (job / stopwatch.JOB).exists() else worker).main(job)
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    serve()
