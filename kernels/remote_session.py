"""One job on one board: a session of TVM's RPC, in a process of its own."""

from __future__ import annotations

import faulthandler
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_UPLOAD_BYTES_PER_S = 200e3  # a board on a slow wireless network
# Shorter calls are repeated within a sample. A sample is a mean, which what else runs
# on the board disturbs; of longer calls only the disturbed ones are.
_SAMPLE_S = 1e-3
_MAX_NUMBER = 1000
_BUDGET_S = 20.0  # of the repeats together, but there are at least:
_MIN_REPEATS = 5
_ZONES = 16  # thermal zones looked at
_BIG_CORES = 1  # tvm's AffinityMode
_CALL = np.dtype([("before", "<f8"), ("after", "<f8"), ("name", "S112")])
_FREQUENCY = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"  # kHz


class Fault(Exception):
    """What failed: "connect", "disk", "load", "board" or "program"; and a message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message


class Session:
    """One job on one board.

    Args:
        job: see :mod:`gos_fx.kernels.remote`.
        say: reports the stage and the seconds ``within`` which it ends.

    Raises:
        Fault: it failed.
    """

    def __init__(self, job: dict[str, Any], say: Callable[..., None]) -> None:
        self._job, self._say = job, say
        self._session = self._connect()

    def result(self) -> dict[str, Any]:
        """What the job asks for, as JSON."""
        from tvm.runtime.vm import VirtualMachine

        job = self._job
        self._board = self._load(Path(job["board_library"]), "gos_fx_board.so")
        before = self._state()
        library = self._load(Path(job["library"]), "gos_fx_model.so")
        device = self._session.cpu(0)
        with self._stage("program", job["call_s"]):
            threads = self._session.get_function("runtime.config_threadpool")
            threads(_BIG_CORES, job["threads"])
            machine = VirtualMachine(library, device)
            inputs = [_tensor(path, device) for path in job["inputs"]]
        if job["outputs"]:
            self._run(machine, inputs)
            return {"state": before}
        flush = job["flush_bytes"]
        with self._stage("program", job["call_s"]):
            if flush:
                self._board["gos_fx_flush"](flush)
            once = self._evaluator(machine, device, 1, 1)(*inputs).median
        samples = self._time(machine, device, inputs, once)
        kernels = self._watch(machine, device, inputs, once)
        return {"samples": samples, "kernels": kernels, "state": self._state()}

    def _connect(self) -> Any:
        from tvm import rpc

        job = self._job
        with self._stage("connect", job["connect_s"]):
            # The server ends the session after this time, whatever became of us.
            timeout = math.ceil(job["session_s"])
            return rpc.connect(job["host"], job["port"], job["match_key"], timeout)

    def _load(self, path: Path, name: str) -> Any:
        """The library on the board. Its file is removed at once: Linux keeps it
        mapped, and a session that is killed leaves nothing behind."""
        size = path.stat().st_size
        with self._stage("board", self._job["call_s"] + size / _UPLOAD_BYTES_PER_S):
            self._session.upload(str(path), name)
            there = self._size(name, path)
        try:
            if there != size:
                raise Fault(
                    "disk", f"{there} of {size} bytes arrived: the board's disk is full"
                )
            with self._stage("load", self._job["call_s"]):
                return self._session.load_module(name)
        finally:
            with self._stage("board", self._job["call_s"]):
                self._session.remove(name)

    def _size(self, name: str, path: Path) -> int:
        """Bytes that arrived: the server's upload stops silently on a full disk."""
        if path == Path(self._job["board_library"]):
            arrived = bytes(self._session.download(name))
            return len(arrived) if arrived == path.read_bytes() else -1
        where = self._session.get_function("tvm.rpc.server.workpath")(name)
        return int(self._board["gos_fx_size"](where))

    def _run(self, machine: Any, inputs: list[Any]) -> None:
        with self._stage("program", self._job["call_s"]):
            machine.set_input("main", *inputs)
            machine.invoke_stateful("main")
            result = machine.get_outputs("main")
            outputs = [result] if hasattr(result, "numpy") else list(result)
            for path, output in zip(self._job["outputs"], outputs):
                np.save(path, output.numpy())

    def _evaluator(self, machine: Any, device: Any, number: int, repeat: int) -> Any:
        """Calls "main" once to warm up, then ``number`` times in each repeat."""
        flush = "gos_fx.flush" if self._job["flush_bytes"] else ""
        return machine.time_evaluator(
            "main", device, number=number, repeat=repeat, f_preproc=flush
        )

    def _time(
        self, machine: Any, device: Any, inputs: list[Any], once: float
    ) -> list[float]:
        """Seconds of one call, repeatedly."""
        # Caches are flushed before a repeat, not before each call in it.
        many = 1 if self._job["flush_bytes"] else math.ceil(_SAMPLE_S / once)
        number = min(_MAX_NUMBER, many)
        repeats = self._repeats(number * once)
        evaluator = self._evaluator(machine, device, number, repeats)
        with self._calls(1 + number * repeats, once):
            return [float(sample) for sample in evaluator(*inputs).results]

    def _watch(
        self, machine: Any, device: Any, inputs: list[Any], once: float
    ) -> list[tuple[str, list[float]]]:
        """(kernel, seconds in each of some calls of the network), in order."""
        repeats = self._repeats(once)
        evaluator = self._evaluator(machine, device, 1, repeats)
        with self._calls(1 + repeats, once):
            self._board["gos_fx_watch"](machine.module)
            evaluator(*inputs)
            data = bytes(self._board["gos_fx_calls"]())
        # A row for each call of the network; the first one is to warm up.
        calls = np.frombuffer(data, _CALL).reshape(1 + repeats, -1)[1:]
        seconds = (calls["after"] - calls["before"]).T
        return [(n.decode(), s.tolist()) for n, s in zip(calls[0]["name"], seconds)]

    def _repeats(self, seconds: float) -> int:
        """Samples of so many seconds each that fit the time for all of them."""
        wanted: int = self._job["repeats"]
        return max(min(wanted, int(_BUDGET_S / seconds)), min(wanted, _MIN_REPEATS))

    def _calls(self, count: int, seconds: float) -> AbstractContextManager[None]:
        """A stage of so many calls; twice the time for a board that grows hot."""
        return self._stage("program", self._job["call_s"] + 2 * count * seconds)

    def _state(self) -> dict[str, Any]:
        """What the board shows of itself; None for what it does not."""
        with self._stage("board", self._job["call_s"]):
            model = self._text("/proc/device-tree/model") or _model(
                self._text("/proc/cpuinfo")
            )
            hottest = None
            for zone in range(_ZONES):
                text = self._text(f"/sys/class/thermal/thermal_zone{zone}/temp")
                if not text:
                    break
                value = _number(text)  # millidegrees
                if value is not None:
                    hottest = max(value, hottest or value)
            clock = _number(self._text(_FREQUENCY))
        return {
            "model": model or None,
            "temperature_c": None if hottest is None else hottest / 1e3,
            "clock_hz": None if clock is None else clock * 1e3,
        }

    def _text(self, path: str) -> str:
        data = bytes(self._board["gos_fx_text"](path))
        return data.decode(errors="replace").strip("\0\n ")

    @contextmanager
    def _stage(self, kind: str, within: float) -> Iterator[None]:
        """Errors inside are faults of this kind, or of a board that is gone."""
        self._say(stage=kind, within=within)
        try:
            yield
        except Fault:
            raise
        except Exception as error:
            if kind != "connect" and not self._alive():
                kind = "board"
            raise Fault(kind, _last_line(str(error))) from error

    def _alive(self) -> bool:
        # An exit without a word counts as a board that died.
        faulthandler.dump_traceback_later(self._job["connect_s"], exit=True)
        try:
            self._session.get_function("tvm.rpc.server.workpath")("")
        except Exception:
            return False
        faulthandler.dump_traceback_later(self._job["session_s"], exit=True)
        return True


def _tensor(path: str, device: Any) -> Any:
    import tvm

    return tvm.runtime.tensor(np.load(path, allow_pickle=False), device)


def _number(text: str) -> float | None:
    return float(text) if text.lstrip("-").isdecimal() else None


def _model(cpuinfo: str) -> str:
    for field in ("Model", "Hardware", "model name"):
        for line in cpuinfo.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == field:
                return value.strip()
    return ""


def _last_line(text: str) -> str:
    """The last line that is not empty: TVM's messages embed whole traces."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
