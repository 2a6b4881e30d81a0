"""The host as a source: real code, pinned, timed in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gos_fx
from gos_fx.compiled import CompiledModel
from gos_fx.errors import BadOption, PackageError, UnsteadyMeasurement
from gos_fx.kernels.host_timing import (
    Repeats,
    compare_packages,
    cores,
    time_packages,
)
from gos_fx.kernels.stopwatch import JOB, RESULT, kernels_of
from gos_fx.latency.host import HostSource
from gos_fx.latency.profile import profile_network
from gos_fx.latency.source import open_source
from gos_fx.passes.operators import find_operators
from gos_fx.pipeline import prepare
from gos_fx.targets import get

# Whatever else runs here: these tests are of what is measured, not of how fast it is.
CALM = Repeats(most=20, least=5, seconds=0.5, limit=1e9, attempts=1)
X = torch.zeros(1, 3, 24, 24)


class Net(nn.Module):
    """Two convolutions, a shortcut that b's kernel takes in, a function, a head."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.head(self.flat(self.pool(x + self.b(x)))).softmax(1)


@pytest.fixture(scope="module")
def small() -> CompiledModel:
    return gos_fx.compile(Net().eval(), example_inputs=X, threads=1)


@pytest.fixture(scope="module")
def large() -> CompiledModel:
    return gos_fx.compile(Net(256).eval(), example_inputs=X, threads=1)


def test_a_network_by_operator() -> None:
    network = prepare(Net().eval(), (X,))
    source = HostSource(get("host"), 1, CALM)
    profile = profile_network(network, source, (X,))
    names = [row.name for row in profile.rows]
    assert names == ["a", "b", "pool", "flat", "head", "softmax", "runtime"]
    assert {row.latency.source for row in profile.rows} == {"host"}
    assert profile.latency.seconds > 0 and profile.latency.source == "host"
    assert profile.row("flat").latency.seconds == 0.0  # a view runs nothing
    assert all(r.latency.seconds > 0 for r in profile.rows if r.name != "flat")
    assert profile.threads == 1 and profile.target == "host"


def test_an_operator_is_measured_once() -> None:
    network = prepare(Net().eval(), (X,))
    source = HostSource(get("host"), 1, CALM)
    first = source.operator(find_operators(network)[0].concrete)
    assert first.seconds > 0 and first.error > 0
    assert source.operator(find_operators(network)[0].concrete) is first


def test_more_work_takes_longer(small: CompiledModel, large: CompiledModel) -> None:
    """About a thousand times the work."""
    comparison = compare_packages(large.package, small.package, 1, CALM)
    assert comparison.ratio > 3
    assert comparison.ratio == comparison.a.median / comparison.b.median
    assert len(comparison.a.samples) == len(comparison.b.samples) >= CALM.least
    assert comparison.spread >= 0


def test_what_is_not_steady_is_refused(small: CompiledModel) -> None:
    strict = Repeats(most=20, seconds=0.2, limit=1e-9, attempts=2)
    with pytest.raises(UnsteadyMeasurement, match=r"differ by \d+%.*more than 0%"):
        time_packages([small.package], 1, strict)
    source = HostSource(get("host"), 1, strict)
    with pytest.raises(UnsteadyMeasurement, match="fewer threads"):
        source.measure(small.package)


def test_only_this_machine() -> None:
    with pytest.raises(BadOption, match="arm_a53 is not this machine"):
        open_source("host", get("arm_a53"))
    package = gos_fx.compile(nn.ReLU().eval(), "arm_a53", example_inputs=X).package
    if package.manifest["machine"] != os.uname().machine:
        with pytest.raises(PackageError, match="does not run on"):
            time_packages([package], 1, CALM)


def test_more_threads_than_cores() -> None:
    allowed = len(os.sched_getaffinity(0))
    with pytest.raises(BadOption, match=f"may use {allowed} CPUs"):
        cores(allowed + 1)
    assert sorted(cores(allowed)) == sorted(os.sched_getaffinity(0))


def test_code_that_dies(small: CompiledModel, tmp_path: Path) -> None:
    saved = small.save(tmp_path / "p").package
    saved.library.write_bytes(b"no library")
    with pytest.raises(PackageError, match="the code fails"):
        time_packages([saved], 1, CALM)


def test_the_caller_is_left_alone(small: CompiledModel) -> None:
    affinity, threads = os.sched_getaffinity(0), torch.get_num_threads()
    time_packages([small.package], 1, CALM)
    assert os.sched_getaffinity(0) == affinity
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("evict_bytes", [0, 1 << 20])
def test_threads_are_pinned(
    small: CompiledModel, tmp_path: Path, evict_bytes: int
) -> None:
    cpus = cores(len(os.sched_getaffinity(0)))
    job = {
        "libraries": [str(small.package.library)],
        "inputs": small.package.manifest["inputs"],
        "cpus": cpus,
        "repeats": 3,
        "least": 3,
        "seconds": 1,
        "evict_bytes": evict_bytes,
    }
    (tmp_path / JOB).write_text(json.dumps(job))
    code = (
        "import pathlib, sys; from gos_fx.kernels import stopwatch;"
        "stopwatch.main(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    result = json.loads((tmp_path / RESULT).read_text())
    assert len(result["samples"][0]) == 3
    assert all(len(cores_of) == 1 for cores_of in result["pinned"])
    assert {c for (c,) in result["pinned"]} == set(cpus)


def test_the_stopwatch_takes_its_own_time_off() -> None:
    nothing = ("vm.builtin.null_value", 1.0)
    calls = [("f", 5.0), nothing, ("vm.builtin.reshape", 3.0), ("g", 0.5)]
    found = kernels_of([calls, calls])
    assert found == [
        {"function": "f", "seconds": [4.0, 4.0]},
        {"function": "g", "seconds": [0.0, 0.0]},
        {"function": "runtime", "seconds": [2.0, 2.0]},
    ]
