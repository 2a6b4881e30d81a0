"""Failures of the compiler become errors that say where."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from gos_fx.errors import CompileError
from gos_fx.kernels import build as build_module
from gos_fx.kernels.build import build, last_line
from gos_fx.kernels.compiler import COMPILER
from gos_fx.kernels.host import HostModule, time_interleaved
from gos_fx.targets.target import get


class Glue(nn.Module):
    """Operators of torch only: what stands between ours."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        y = torch.relu(self.conv(x)) + 1.0
        z = torch.cat([y, y * 2], 1).flatten(1)
        return self.norm(y.mean((2, 3))), torch.softmax(z, 1)


def test_torch_operators_in_between(tmp_path):
    torch.manual_seed(0)
    module = Glue().eval()
    x = torch.randn(1, 3, 9, 11)
    result = build(module, (x,), get("host"), tmp_path / "new")
    assert result.library.is_file() and result.seconds > 0
    compiled = HostModule(result.library, threads=1)
    for a, b in zip(module(x), compiled(x), strict=True):
        torch.testing.assert_close(a.detach(), b, atol=1e-5, rtol=1e-4)
    timings = time_interleaved([module, compiled], (x,), repeats=5)
    assert all(t.median > 0 and len(t.samples) == 5 for t in timings)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def compile_in_background(tmp_path: Path) -> Future:
    """A compilation that takes long enough to be hit."""
    layers = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(12)]
    network = nn.Sequential(*layers)
    pool = ThreadPoolExecutor(1)
    x = torch.ones(1, 64, 8, 8)
    return pool.submit(build, network, (x,), get("host"), tmp_path)


def kill(signal_number: int, find: Callable[[], list[int]]) -> None:
    while not (pids := find()):
        time.sleep(0.005)
    os.kill(pids[0], signal_number)


def test_death_of_the_compiler(tmp_path):
    build(nn.ReLU(), (torch.ones(2),), get("host"), tmp_path)
    server = COMPILER._process.pid
    running = compile_in_background(tmp_path)
    kill(signal.SIGSEGV, lambda: children(server))
    with pytest.raises(CompileError, match=r"died of SIGSEGV \(stage \w+"):
        running.result()
    assert build(nn.ReLU(), (torch.ones(2),), get("host"), tmp_path).library.exists()
    assert COMPILER._process.pid == server


def test_death_of_the_process_that_forks(tmp_path):
    build(nn.ReLU(), (torch.ones(2),), get("host"), tmp_path)
    server = COMPILER._process.pid
    running = compile_in_background(tmp_path)
    kill(signal.SIGKILL, lambda: children(server) and [server])
    with pytest.raises(CompileError, match="died of SIGKILL"):
        running.result()
    assert build(nn.ReLU(), (torch.ones(2),), get("host"), tmp_path).library.exists()
    assert COMPILER._process.pid != server


def test_compiler_that_takes_too_long(tmp_path):
    build(nn.ReLU(), (torch.ones(2),), get("host"), tmp_path)
    layers = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(12)]
    with pytest.raises(CompileError, match=r"longer than 0.01 s \(stage"):
        build(
            nn.Sequential(*layers),
            (torch.ones(1, 64, 8, 8),),
            get("host"),
            tmp_path,
            timeout=0.01,
        )
    while children(COMPILER._process.pid):
        time.sleep(0.005)


def test_unsupported_torch_operator(tmp_path):
    class Svd(nn.Module):
        def forward(self, x):
            return torch.linalg.svdvals(x)

    with pytest.raises(CompileError, match="stage import"):
        build(Svd(), (torch.randn(4, 4),), get("host"), tmp_path)


def test_what_cannot_be_exported(tmp_path):
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(CompileError, match="stage export"):
        build(Branch(), (torch.randn(4),), get("host"), tmp_path)


def test_last_line():
    assert last_line("a\n b \n\n") == "b"
    assert (
        last_line("KeyError: a\n[1:2:3] x.cc:67: Warning: left over") == "KeyError: a"
    )
    assert last_line("") == ""
    assert Path(build_module.__file__).name == "build.py"
