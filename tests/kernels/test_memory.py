"""The memory that a package states is what its code takes when it runs."""

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
from gos_fx.errors import PackageError
from gos_fx.kernels.link import zig
from gos_fx.kernels.memory import workspaces
from gos_fx.latency.memory import foreseen_memory
from gos_fx.passes.memory import weight_bytes
from gos_fx.passes.operators import find_operators
from gos_fx.pipeline import prepare
from gos_fx.targets import get

COUNTER = Path(__file__).parent / "count_memory.c"
# Runs a library once to load everything, then once while the counter listens.
RUN = """\
import ctypes, json, os, sys
os.environ["TVM_BIND_THREADS"] = "0"
import numpy as np, tvm
from tvm.relax import VirtualMachine
tvm.get_global_func("runtime.config_threadpool")(1, int(sys.argv[3]))
vm = VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu(), memory_cfg="naive")
x = [tvm.runtime.tensor(np.ones(s, "float32")) for s in json.loads(sys.argv[2])]
vm["main"](*x)
count = ctypes.CDLL(os.environ["LD_PRELOAD"])
count.gos_start()
vm["main"](*x)
print(json.dumps([count.gos_tensors(), count.gos_scratch(), count.gos_peak()]))
"""


class Branches(nn.Module):
    """Padded convolutions, a shortcut over a wide middle, glue, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.wide = nn.Conv2d(8, 32, 3, padding=1)
        self.back = nn.Conv2d(32, 8, 1)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2)
        self.head = nn.Linear(16, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.stem(x))
        x = x + self.back(self.wide(x))
        y = self.down(x)
        z = torch.cat([y, y * 2], 1).flatten(2)
        return self.head(y.mean((2, 3))), torch.softmax(z, 1)


class Chain(nn.Module):
    """Each layer reuses what the one before the last had."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 16, 3, padding=1, stride=2)]
        layers += [nn.Conv2d(16, 16, 3, padding=1) for _ in range(5)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(16, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


NETWORKS = {"branches": Branches, "chain": Chain}
X = torch.zeros(1, 3, 40, 40)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = NETWORKS[request.param]().eval()
    return made


@pytest.fixture(scope="module")
def compiled(network: nn.Module) -> CompiledModel:
    return gos_fx.compile(network, "host", example_inputs=X, threads=1)


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("counter") / "count.so"
    zig(["cc", "-shared", "-O1", "-o", str(library), str(COUNTER)], stage="counter")
    return library


def allocated(compiled: CompiledModel, counter: Path, threads: int) -> list[int]:
    """Peaks of tensors, of scratch memory, and of both, in a process of its own."""
    shapes = json.dumps([spec.shape for spec in compiled.inputs])
    library = str(compiled.package.library)
    done = subprocess.run(
        [sys.executable, "-c", RUN, library, shapes, str(threads)],
        env=os.environ | {"LD_PRELOAD": str(counter)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_it_is_what_the_code_allocates(compiled: CompiledModel, counter: Path) -> None:
    stated = compiled.package.manifest["memory"]
    tensors, scratch, both = allocated(compiled, counter, 1)
    inputs = X.numel() * 4  # the caller's
    assert stated["activation_bytes"] == inputs + tensors
    assert stated["workspace_bytes"] == scratch > 0
    assert stated["peak_bytes"] == stated["weights_bytes"] + inputs + both
    assert compiled.memory_bytes == stated["peak_bytes"]


def test_weights_are_those_in_the_library(
    network: nn.Module, compiled: CompiledModel
) -> None:
    weights = compiled.package.manifest["memory"]["weights_bytes"]
    assert weight_bytes(prepare(network, (X,))) <= weights
    code = compiled.package.library.stat().st_size - weights
    assert 0 < code < 300_000


def test_the_estimate_of_the_search_is_near(
    network: nn.Module, compiled: CompiledModel
) -> None:
    """It has the code's own plans, so that it is off by next to nothing."""
    traced = prepare(network, (X,))
    found = foreseen_memory(traced, find_operators(traced), get("host"), 1)
    stated = compiled.package.manifest["memory"]
    assert found.activations == stated["activation_bytes"]
    assert found.scratch == pytest.approx(stated["workspace_bytes"], rel=0.05)
    assert found.weights == stated["weights_bytes"]
    assert found.peak == pytest.approx(compiled.memory_bytes, rel=0.02)


def test_each_thread_has_its_own_scratch_memory(
    network: nn.Module, compiled: CompiledModel, counter: Path
) -> None:
    two = gos_fx.compile(network, "host", example_inputs=X, threads=2)
    stated = two.package.manifest["memory"]
    assert stated["workspace_bytes"] >= allocated(two, counter, 2)[1]
    traced = prepare(network, (X,))
    found = foreseen_memory(traced, find_operators(traced), get("host"), 2)
    assert found.peak == pytest.approx(two.memory_bytes, rel=0.02)
    one = compiled.package.manifest["memory"]
    assert stated["activation_bytes"] == one["activation_bytes"]


def test_the_estimate_knows_threads_and_what_torch_does_between() -> None:
    """With values that are seen in the memory of others, a product of two maps, and a
    function that no rule knows."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 24, 3, padding=1, stride=2)
            self.norm = nn.LayerNorm(24)
            self.b = nn.Linear(24, 48)

        def forward(self, x: Tensor) -> Tensor:
            z = self.norm(self.a(x).flatten(2).transpose(1, 2))
            q, k = self.b(torch.cumsum(z, 1)).chunk(2, -1)
            return (torch.softmax(q @ k.transpose(1, 2), -1) @ z).flatten(1)

    model, x = Attention().eval(), torch.zeros(1, 3, 32, 32)
    traced = prepare(model, (x,))
    found = foreseen_memory(traced, find_operators(traced), get("host"), 2)
    stated = gos_fx.compile(model, "host", example_inputs=x, threads=2).package.manifest
    assert stated["memory"] == {
        "weights_bytes": found.weights,
        "activation_bytes": found.activations,
        "workspace_bytes": found.scratch,
        "peak_bytes": found.peak,
    }


def test_equal_constants_are_there_once() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(32, 32)
            self.b = nn.Linear(32, 32)
            self.b.load_state_dict(self.a.state_dict())

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    compiled = gos_fx.compile(Twins().eval(), example_inputs=torch.zeros(1, 32))
    memory = compiled.package.manifest["memory"]
    assert memory["weights_bytes"] == 4 * (32 * 32 + 32)


def test_a_saved_package_still_says_it(compiled: CompiledModel, tmp_path: Path) -> None:
    saved = gos_fx.load(compiled.save(tmp_path / "p").package.directory)
    assert isinstance(saved, CompiledModel)
    assert saved.memory_bytes == compiled.memory_bytes
    del saved.package.manifest["memory"]
    with pytest.raises(PackageError, match="does not say what memory"):
        _ = saved.memory_bytes


LISTING = """\
define internal fastcc i32 @conv_compute_(i32 %dev_id, ptr %x) {
  %pad = tail call ptr %2(i32 1, i32 %dev_id, i64 3000, i32 2, i32 32), !dbg !296
  %pad.1 = tail call ptr %2(i32 1, i32 %dev_id, i64 3000, i32 2, i32 32), !dbg !296
  %6 = call i32 %5(ptr nonnull @__tvm_parallel_lambda.4, ptr nonnull %1, i32 0)
  %7 = call i32 %5(ptr nonnull @__tvm_parallel_lambda.5, ptr nonnull %1, i32 0)
}
define private noundef i32 @__tvm_parallel_lambda.4(i32 %task_id, ptr %0) #6 {
  %local = call ptr %2(i32 1, i32 %dev_id, i64 500, i32 2, i32 32), !dbg !296
}
define private noundef i32 @__tvm_parallel_lambda.5(i32 %task_id, ptr %0) #6 {
  %local = call ptr %2(i32 1, i32 %dev_id, i64 70, i32 2, i32 32), !dbg !296
  %more = call ptr %3(i32 1, i32 %dev_id, i64 10, i32 2, i32 32), !dbg !296
}
define dllexport i32 @__tvm_ffi_add(ptr noalias %args) {
}
"""


def test_workspaces_of_a_listing() -> None:
    assert workspaces(LISTING, 1) == {"conv": 3500, "add": 0}
    assert workspaces(LISTING, 4) == {"conv": 5000, "add": 0}


def test_the_estimate_knows_what_a_scan_keeps() -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(40, 64, 2, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)[0]
            return y

    model, x = Sequence().eval(), torch.zeros(4, 12, 40)
    traced = prepare(model, (x,))
    found = foreseen_memory(traced, find_operators(traced), get("host"), 1)
    stated = gos_fx.compile(model, "host", example_inputs=x, threads=1).package.manifest
    assert found.scratch == stated["memory"]["workspace_bytes"] > 0
    assert found.peak == pytest.approx(stated["memory"]["peak_bytes"], rel=0.05)
