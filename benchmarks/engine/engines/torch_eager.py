"""PyTorch without a compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.engine.engine import Engine, Run

ENGINE = Engine("torch")


def load(name: str, folder: Path, threads: int) -> Run:
    import torch

    from benchmarks.engine.case import network

    torch.set_num_threads(threads)
    model = network(name)

    def run(x: Any) -> Any:
        with torch.no_grad():
            return model(torch.from_numpy(x)).numpy()

    return run
