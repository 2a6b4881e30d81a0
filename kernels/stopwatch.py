"""What a measuring process does; ``gos_fx.kernels.compiler`` starts it.

Reads ``measure.json``: libraries, the shapes and dtypes of their inputs, threads, cores
and how often; writes ``result.json``: seconds of every call, and of the kernels inside.
It is a process of its own so that pinning and TVM's pool leave the caller alone.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

JOB, RESULT = "measure.json", "result.json"
_ONE_CORE_PER_THREAD = -2  # tvm's AffinityMode kSpecifyOneCorePerThread
# A call of this function does nothing: what it takes is the stopwatch's own time.
_NOTHING = "vm.builtin.null_value"
_BUILTIN = "vm.builtin."
RUNTIME = "runtime"

Calls = list[tuple[str, float]]


def main(directory: Path) -> None:
    """Measure the job in ``directory``."""
    job = json.loads((directory / JOB).read_text())
    pin(job["cpus"])
    evict = _Evictor(job["cpus"], job["evict_bytes"])
    runs = [_Run(Path(path), job["inputs"], evict) for path in job["libraries"]]
    for run in runs:
        run.once()
        run.watched()
    samples: list[list[float]] = [[] for _ in runs]
    watched: list[list[Calls]] = [[] for _ in runs]
    started = time.perf_counter()
    while len(samples[0]) < job["repeats"]:
        # In turn, so that what disturbs the machine disturbs all of them alike.
        for run, seconds, calls in zip(runs, samples, watched, strict=True):
            seconds.append(run.once())
            calls.append(run.watched())
        enough = len(samples[0]) >= job["least"]
        if enough and time.perf_counter() - started > job["seconds"]:
            break
    kernels = [kernels_of(calls) for calls in watched]
    result = {"samples": samples, "kernels": kernels, "pinned": pinned()}
    (directory / RESULT).write_text(json.dumps(result))


def pin(cpus: list[int]) -> None:
    """One thread of TVM's pool on each core, this one on the first."""
    os.environ["TVM_BIND_THREADS"] = "1"
    import tvm

    configure = tvm.get_global_func("runtime.config_threadpool")
    configure(_ONE_CORE_PER_THREAD, len(cpus), [str(cpu) for cpu in cpus])
    os.sched_setaffinity(0, {cpus[0]})


def pinned() -> list[list[int]]:
    """Cores of each thread of this process."""
    return [sorted(os.sched_getaffinity(int(t))) for t in os.listdir("/proc/self/task")]


class _Evictor:
    """Fills the caches of the cores in use with something else."""

    def __init__(self, cpus: list[int], size: int) -> None:
        import numpy as np

        self.bytes = size
        if not size:
            return
        self._pool = ThreadPoolExecutor(len(cpus))
        self._buffers = [np.zeros(size, "uint8") for _ in cpus]
        self._cpus = cpus

    def __call__(self) -> None:
        list(self._pool.map(self._fill, self._cpus, self._buffers))

    @staticmethod
    def _fill(cpu: int, buffer: Any) -> None:
        os.sched_setaffinity(0, {cpu})
        buffer += 1


class _Run:
    """One library, loaded, with inputs of its own."""

    def __init__(self, library: Path, specs: list[Any], evict: _Evictor) -> None:
        import numpy as np
        import tvm
        from tvm.runtime.vm import VirtualMachine

        module = tvm.runtime.load_module(str(library))
        self._main = VirtualMachine(module, tvm.cpu())["main"]
        # A second machine of the same code, for an instrument cannot be taken off.
        self._calls: Calls = []
        self._starts: list[float] = []
        self._machine = VirtualMachine(module, tvm.cpu())
        self._machine.set_instrument(self._watch)
        self._watched = self._machine["main"]
        random = np.random.default_rng(0)
        self._arrays = [
            random.standard_normal(spec["shape"]).astype(spec["dtype"])
            if spec["dtype"].startswith("float")
            else np.zeros(spec["shape"], spec["dtype"])
            for spec in specs
        ]
        self._inputs = [tvm.runtime.tensor(array) for array in self._arrays]
        self._evict = evict

    def _ready(self) -> None:
        """Caches as an operator finds them that was not the last: its weights are gone,
        its inputs were just written."""
        if self._evict.bytes:
            self._evict()
            for tensor, array in zip(self._inputs, self._arrays, strict=True):
                tensor.copyfrom(array)

    def once(self) -> float:
        """Seconds of one inference."""
        self._ready()
        start = time.perf_counter()
        self._main(*self._inputs)
        return time.perf_counter() - start

    def watched(self) -> Calls:
        """Each function that an inference calls, in order, with its seconds."""
        self._ready()
        self._calls = []
        self._watched(*self._inputs)
        return self._calls

    def _watch(self, function: Any, name: str, before: bool, *rest: Any) -> None:
        if before:
            self._starts.append(time.perf_counter())
        else:
            now = time.perf_counter()
            self._calls.append((name, now - self._starts.pop()))


def kernels_of(rounds: list[Calls]) -> list[dict[str, Any]]:
    """Each kernel in order: its function and its seconds in every inference, less what
    the stopwatch takes itself. The last is what the virtual machine did in between."""
    own = [s for calls in rounds for name, s in calls if name == _NOTHING]
    overhead = statistics.median(own) if own else 0.0
    kernels, between = [], [0.0] * len(rounds)
    for call in zip(*rounds, strict=True):
        name = call[0][0]
        seconds = [max(0.0, s - overhead) for _, s in call]
        if name.startswith(_BUILTIN):
            between = [a + b for a, b in zip(between, seconds, strict=True)]
        else:
            kernels.append({"function": name, "seconds": seconds})
    return [*kernels, {"function": RUNTIME, "seconds": between}]
