"""PyTorch's own compiler, weights frozen into the code. Needs a C++ compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.engine.engine import Engine, Run

ENGINE = Engine("torch", variables=(("TORCHINDUCTOR_FREEZING", "1"),))


def load(name: str, folder: Path, threads: int) -> Run:
    import torch

    from benchmarks.engine.case import network

    torch.set_num_threads(threads)
    model = torch.compile(network(name))

    def run(x: Any) -> Any:
        with torch.no_grad():
            return model(torch.from_numpy(x)).numpy()

    return run
