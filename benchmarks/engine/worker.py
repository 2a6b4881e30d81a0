"""Runs in an engine's environment: a network that waits to be timed on this machine.

    python -m benchmarks.engine.worker ENGINE NETWORK MODEL CASE THREADS CPUS OUTPUT

Loads the network, writes its output to OUTPUT and says so with a line. Each line of its
input is a number of inferences; the answer is a line of JSON with their seconds. One
more inference goes before them: others have used the caches.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
ALIGNMENT = 64  # bytes; no engine has to copy its input for that


def aligned(array: Any) -> Any:
    """A copy that begins at a multiple of ``ALIGNMENT``."""
    import numpy as np

    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def serve(run: Any, x: Any, orders: IO[str], answers: IO[str]) -> None:
    """Time as many inferences as are asked for, until nobody asks any more."""
    for order in orders:
        run(x)
        seconds = []
        for _ in range(int(order)):
            start = time.perf_counter()
            run(x)
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), file=answers, flush=True)


def main() -> None:
    name, network, model, case, threads, cpus, output = sys.argv[1:]
    # It is stopped most of the time, and would stay so if who asks it were killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    # What an engine prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import numpy as np

    from benchmarks.engine import engine

    run = engine.module(name).load(network, Path(model), int(threads))
    x = aligned(np.load(case))
    np.save(output, run(x))
    print("ready", file=answers, flush=True)
    serve(run, x, sys.stdin, answers)


if __name__ == "__main__":
    main()
