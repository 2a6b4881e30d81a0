"""Runs on the emulated board: one inference between two marks, after another one.

python -m benchmarks.engine.marked ENGINE NETWORK MODEL CASE THREADS OUTPUT
"""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import numpy as np

from benchmarks.engine import engine
from benchmarks.engine.worker import aligned

_MARK = 0x676F7378  # the plugin's: prctl with it ends a segment


def main() -> None:
    name, network, model, case, threads, output = sys.argv[1:]
    prctl = ctypes.CDLL(None).prctl
    run = engine.module(name).load(network, Path(model), int(threads))
    x = aligned(np.load(case))
    run(x)
    gc.disable()
    prctl(_MARK, 1, 0, 0, 0)
    y = run(x)
    prctl(_MARK, 2, 0, 0, 0)
    np.save(output, y)


if __name__ == "__main__":
    main()
