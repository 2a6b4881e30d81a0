"""A network of the real world through the whole of gos_fx: search, ARM code, run."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import gos_fx
from gos_fx.compiled import CompiledModel

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed (extra test)", allow_module_level=True)

X = torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def optimized() -> Iterator[torch.fx.GraphModule]:
    """One operator among the costliest is replaced; any accuracy will do."""
    from benchmarks.torchvision_models import network

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two are far slower where another process runs
    model = network("resnet18")
    with torch.no_grad():
        data = [(X, model(X).argmax(1))]
    yield gos_fx.optimize(
        model,
        target="arm_a53",
        example_inputs=X[:1],
        train_data=data,
        eval_data=data,
        epsilon=1.0,
        only=["layer4.1.conv1"],
        iterations=2,
        population=8,
        max_replacements=1,
        time_budget=120,
    )
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def compiled(optimized: torch.fx.GraphModule) -> CompiledModel:
    return gos_fx.compile(optimized, target="arm_a53", example_inputs=X[:1])


def test_optimize(optimized: torch.fx.GraphModule) -> None:
    result = optimized.gos
    (replacement,) = result.replacements
    assert replacement.operators == ("layer4.1.conv1",)
    assert not replacement.schedule_only
    assert result.speedup > 1.0
    assert optimized(X).shape == (16, 1000)


def test_compile(compiled: CompiledModel) -> None:
    assert compiled.package.manifest["machine"] == "aarch64"
    assert compiled.package.library.read_bytes()[18:20] == b"\xb7\x00"  # EM_AARCH64
    assert [spec.shape for spec in compiled.outputs] == [(1, 1000)]


@pytest.mark.qemu
def test_run(optimized: torch.fx.GraphModule, compiled: CompiledModel) -> None:
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: apt-get install qemu-user)")
    with torch.no_grad():
        expected: Tensor = optimized(X[:1])
        (found,) = compiled(X[:1])
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * scale)
