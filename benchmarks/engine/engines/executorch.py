"""ExecuTorch with all that XNNPACK takes delegated to it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Any

from benchmarks.engine.engine import Engine, Run

ENGINE = Engine(
    "executorch",
    requires=("executorch==1.5.1",),
    guest=("executorch==1.5.1", "numpy"),
    guest_dependencies=False,  # they are those of its compiler
)
# Path of `executorch.cpp` compiled, in the environment of whoever loads a network.
LIBRARY = "GOS_FX_BENCHMARK_EXECUTORCH"
SOURCE = Path(__file__).with_suffix(".cpp")
_LIBRARIES = ("", "_threadpool", "_backend_xnnpack", "_kernels_optimized")


def convert(network: Any, example: Any, folder: Path) -> None:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
        XnnpackPartitioner,
    )
    from executorch.exir import to_edge_transform_and_lower

    program = to_edge_transform_and_lower(
        torch.export.export(network, (example,)), partitioner=[XnnpackPartitioner()]
    )
    (folder / "model.pte").write_bytes(program.to_executorch().buffer)


def load(name: str, folder: Path, threads: int) -> Run:
    import numpy as np

    found = importlib.util.find_spec("executorch")
    assert found is not None and found.submodule_search_locations is not None
    libraries = Path(next(iter(found.submodule_search_locations))) / "lib"
    for part in _LIBRARIES:
        ctypes.CDLL(str(libraries / f"libexecutorch{part}.so"), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(os.environ[LIBRARY])
    pointer = ctypes.c_void_p
    library.open_network.argtypes = [ctypes.c_char_p, ctypes.c_int]
    library.open_network.restype = pointer
    library.output_bytes.argtypes = [pointer]
    library.output_bytes.restype = ctypes.c_size_t
    library.run_network.argtypes = [pointer, pointer, pointer]
    network = library.open_network(str(folder / "model.pte").encode(), threads)
    size = library.output_bytes(network) // np.dtype(np.float32).itemsize

    def run(x: Any) -> Any:
        y = np.empty(size, np.float32)
        library.run_network(network, x.ctypes.data, y.ctypes.data)
        return y

    return run
