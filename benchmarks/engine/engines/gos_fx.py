"""This project: the network as it is, only compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.engine.engine import Engine, Run

ENGINE = Engine("gos_fx")


def load(name: str, folder: Path, threads: int) -> Run:
    import torch

    import gos_fx
    from benchmarks.engine.case import example, network

    torch.set_num_threads(1)  # only TVM's threads work
    compiled = gos_fx.compile(
        network(name), target="host", example_inputs=example(name), threads=threads
    )

    def run(x: Any) -> Any:
        return compiled(torch.from_numpy(x))[0].numpy()

    return run
