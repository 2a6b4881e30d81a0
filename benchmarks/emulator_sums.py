"""Networks under the emulator: the sum of their parts against the whole.

The parts are what the profile shows: kernels that the probe marked. The whole is
another program, the package's own driver without marks, timed between two calls of the
clock as any program is. Both run on TVM's own threads.
It takes about two minutes; needs torchvision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.torchvision_models import network
from gos_fx.emulator.measure import measure as measure_program
from gos_fx.kernels import cross_runtime
from gos_fx.kernels.kernel_work import RUNTIME
from gos_fx.kernels.package import Package
from gos_fx.kernels.packaged import package_network
from gos_fx.latency.emulator import EmulatorSource
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.passes.nested import tensors
from gos_fx.passes.trace import run_once
from gos_fx.targets import get

NETWORKS = ("resnet18", "mobilenet_v2")
TARGET, THREADS = "arm_a53", (1, 4)


def sums() -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """One row for each network and number of threads."""
    yield (
        "Emulator: sum of a network's parts against the whole, arm_a53",
        [_row(name, threads) for name in NETWORKS for threads in THREADS],
    )


def _row(name: str, threads: int) -> dict[str, Any]:
    inputs = (torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)),)
    opaque = make_opaque(network(name), inputs)
    outputs = tensors(run_once(opaque, inputs))
    target = get(TARGET)
    with tempfile.TemporaryDirectory() as folder:
        package, _ = package_network(
            opaque, inputs, outputs, target, Path(folder), threads
        )
        timing = EmulatorSource(target, threads).measure(package)
        whole = _whole(package, inputs, threads, Path(folder))
    runtime = sum(k.latency.seconds for k in timing.kernels if k.function == RUNTIME)
    return {
        "network": name,
        "threads": threads,
        "sum_ms": 1e3 * timing.total.seconds,
        "whole_ms": 1e3 * whole,
        "difference_percent": 100 * (timing.total.seconds / whole - 1),
        "runtime_ms": 1e3 * runtime,
        "kernels": len(timing.kernels) - 1,
    }


def _whole(
    package: Package, inputs: tuple[torch.Tensor, ...], threads: int, folder: Path
) -> float:
    """Seconds of the driver's second inference."""
    inputs[0].numpy().tofile(folder / "in")
    shape = ",".join(map(str, inputs[0].shape))
    found = measure_program(
        [
            str(cross_runtime.driver()),
            str(package.library),
            *("--threads", str(threads), "--repeats", "1"),
            f"float32:{shape}:{folder / 'in'}",
        ],
        package.target,
        threads=threads,
        guest={"LD_LIBRARY_PATH": str(cross_runtime.runtime())},
    )
    return found.latency_s
