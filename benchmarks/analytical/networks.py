"""Whole networks measured by the emulator: ``networks.json``.

    python -m benchmarks.analytical.networks

measures them anew, about two minutes each. Stored are counts, which do not depend on
constants of a board: cycles and lines by operator and by function between operators.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import fx

from benchmarks.torchvision_models import network
from gos_fx.latency.source import open_source
from gos_fx.pipeline import prepare
from gos_fx.targets import Target, get

FILE = Path(__file__).parent / "networks.json"
NETWORKS = ("resnet18", "mobilenet_v2")
THREADS = (1, 4)
# The Raspberry Pi 3B+ is the same core with another clock: the same counts.
TARGET = "arm_a53"


@lru_cache
def traced(name: str) -> fx.GraphModule:
    """The network at 224 x 224."""
    return prepare(network(name), (torch.zeros(1, 3, 224, 224),))


def read(path: Path = FILE) -> dict[str, dict[str, dict[str, float]]]:
    """``"resnet18:1"`` -> row -> what was counted."""
    found: dict[str, dict[str, dict[str, float]]] = json.loads(path.read_text())
    return found


def seconds(
    counts: Mapping[str, Mapping[str, float]], target: Target, threads: int
) -> float:
    """Of a network's rows together, by the target's constants.

    All cycles of an operator count at the rate of the threads' constants; what the
    emulator's source counts at one thread's rate, the serial parts, is below 1 %.
    """
    assert target.emulation is not None
    fit, one = target.emulation.fit(threads), target.emulation.fit(1)
    total = 0.0
    for name, row in counts.items():
        constants = one if name == "runtime" else fit
        cycles = constants.issue * row["cycles"] / target.machine.clock_hz
        total += cycles + constants.line_s * row["lines"]
    return total


def main() -> None:
    from gos_fx.kernels.tuning.records import ignored

    counted = {}
    for name in NETWORKS:
        for threads in THREADS:
            source = open_source("emulator", get(TARGET), threads)
            inputs = (torch.zeros(1, 3, 224, 224),)
            with ignored():  # as the model sees it: nothing tuned
                found = source.network(traced(name), inputs)
            counted[f"{name}:{threads}"] = {
                row: {key: round(value) for key, value in counts.items()}
                for row, counts in found.counters.items()
            }
            print(name, threads, found.total, flush=True)
    FILE.write_text(json.dumps(counted, indent=1) + "\n")


if __name__ == "__main__":
    main()
