"""The emulator as a source: real compiled code, counted."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import gos_fx.instructions  # noqa: F401  (declares the instructions)
from gos_fx.emulator.measure import measure as measure_program
from gos_fx.emulator.tools import find_llvm, find_qemu
from gos_fx.errors import EmulatorUnavailable, Unsupported
from gos_fx.ir.parser import parse
from gos_fx.kernels import cross_runtime, emulator
from gos_fx.kernels.packaged import package_network, package_operator
from gos_fx.latency.emulator import EmulatorSource
from gos_fx.latency.measured import RUNTIME, KernelTime, assign
from gos_fx.latency.model import Estimate
from gos_fx.latency.source import open_source
from gos_fx.passes.fold_batch_norm import fold_batch_norm
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.passes.trace import trace
from gos_fx.targets.target import get

CONVOLUTION = """\
def conv(x: map[1, 16, 28, 28], w: weight[32, 16, 3, 3], b: weight[32]) -> map[1, 32, 28, 28]:
    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1, padding=(1, 1, 1, 1))
    v1 = sum(v0, axis="ci")
    v2 = add(v1, b)
    return v2
"""  # noqa: E501


@pytest.fixture(scope="module", autouse=True)
def tools():
    try:
        find_qemu()
        find_llvm("llvm-mc")
    except EmulatorUnavailable as missing:
        pytest.skip(str(missing))


pytestmark = pytest.mark.qemu


class Residual(nn.Module):
    """Convolutions with a branch, a function between modules, and two equal layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.first = nn.Conv2d(16, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    inputs = (torch.randn(1, 3, 32, 32),)
    traced = trace(Residual().eval(), inputs)
    fold_batch_norm(traced)
    return traced, inputs


@pytest.fixture(scope="module")
def package(network, tmp_path_factory):
    traced, inputs = network
    opaque = make_opaque(traced, inputs)
    folder = tmp_path_factory.mktemp("package")
    outputs = [opaque(*inputs)]
    made, _ = package_network(opaque, inputs, outputs, get("arm_a53"), folder, 4)
    return made


def cycles(works) -> float:
    return sum(work.serial + work.parallel for work in works)


def test_operators_sum_to_the_network(network):
    traced, inputs = network
    found = EmulatorSource(get("arm_a53"), 1).network(traced, inputs)
    assert {"stem", "first", "second", "head"} <= set(found.operators)
    assert RUNTIME in found.others
    parts = [*found.operators.values(), *found.others.values()]
    total = sum(part.seconds for part in parts)
    assert total == pytest.approx(found.total.seconds, rel=1e-9)
    assert found.total.source == "emulator"
    assert 0 < found.total.noise < found.total.error < found.total.seconds
    # Equal layers on equal shapes.
    assert found.operators["first"].seconds == pytest.approx(
        found.operators["second"].seconds, rel=0.05
    )
    assert found.counters["first"]["cycles"] > 16 * 16 * 16 * 16 * 9 / 4  # FMAs
    assert found.counters["first"]["instructions"] > found.counters["first"]["lines"]


@pytest.mark.parametrize("threads", [1, 4])
def test_kernels_sum_to_a_run_without_marks(package, tmp_path, threads):
    """The same inference of the plain driver, with TVM's real thread pool."""
    works = emulator.measure(package, threads=threads)
    inputs = list(emulator._inputs(package))
    arguments, _ = emulator._files(package, inputs, tmp_path)
    whole = measure_program(
        [
            str(cross_runtime.driver()),
            str(package.library),
            *("--threads", str(threads), "--repeats", "1", *arguments),
        ],
        package.target,
        guest=emulator._guest_variables(),
        threads=threads,
    )
    assert whole.region == "clock:1"
    assert whole.working_threads == threads
    counted = sum(work.instructions for work in works)
    if threads == 1:
        assert counted == pytest.approx(whole.instructions, rel=0.02)
        assert cycles(works) == pytest.approx(whole.cycles, rel=0.05)
    else:
        assert cycles(works) == pytest.approx(whole.busiest_cycles, rel=0.08)
        assert counted == pytest.approx(whole.instructions, rel=0.05)


def test_parallel_loops_divide(package):
    one = emulator.measure(package, threads=1)
    four = emulator.measure(package, threads=4)
    assert [w.function for w in one] == [w.function for w in four]
    for before, after in zip(one[:-1], four[:-1], strict=True):
        if before.parallel > 1e5:
            whole = (before.serial + before.parallel, after.serial + after.parallel)
            assert 3 < whole[0] / whole[1] < 4.05
        # Waking the threads takes some thousand cycles.
        assert -100 <= after.serial - before.serial < 6000
    assert sum(w.lines for w in four) == pytest.approx(
        sum(w.lines for w in one), rel=0.05, abs=100
    )


def test_repeats_agree(package, tmp_path, monkeypatch):
    first = emulator.measure(package, threads=4)
    monkeypatch.setattr(emulator, "_read", lambda path: None)  # do not look it up
    again = emulator.measure(package, threads=4)
    assert cycles(again) == pytest.approx(cycles(first), rel=0.01)
    assert [w.instructions for w in again[:-1]] == pytest.approx(
        [w.instructions for w in first[:-1]], rel=0.01, abs=50
    )


def test_results_are_kept_by_content(tmp_path, monkeypatch):
    monkeypatch.setattr(emulator.config, "cache_dir", lambda: tmp_path)
    target = get("arm_a53")
    package = package_operator(parse(CONVOLUTION), target, tmp_path / "op", 1)
    found = emulator.measure(package, alone=True)
    files = list((tmp_path / "emulated").glob("*.json"))
    assert len(files) == 1
    assert emulator.measure(package, alone=True) == found
    for broken in ("", "[1]", '[{"function": 1}]'):
        files[0].write_text(broken)
        assert emulator.measure(package, alone=True) == found
    emulator.measure(package, alone=False)
    assert len(list((tmp_path / "emulated").glob("*.json"))) == 2


def test_an_operator_alone_finds_its_weights_in_dram():
    """Cold weights and warm inputs: at least each weight's line comes from DRAM."""
    target = get("arm_a53")
    text = CONVOLUTION.replace("[32, 16, 3, 3]", "[512, 256, 3, 3]")
    text = text.replace("weight[32]", "weight[512]").replace("28, 28", "7, 7")
    text = text.replace("[1, 16, 7, 7", "[1, 256, 14, 14").replace("[1, 32", "[1, 512")
    # Not a Winograd convolution, whose weights are larger.
    text = text.replace("stride=(1, 1)", "stride=(2, 2)")
    with tempfile.TemporaryDirectory() as folder:
        package = package_operator(parse(text), target, Path(folder), 1)
        (kernel, *_, runtime) = emulator.measure(package, alone=True)
    assert runtime.function == RUNTIME
    weights = 512 * 256 * 9 * 4 / 64
    assert weights <= kernel.lines <= 1.3 * weights


def test_latency_follows_the_fit():
    """Twice the clock halves the cycles' part, and nothing else."""
    target = get("arm_a53")
    machine = replace(target.machine, clock_hz=2 * target.machine.clock_hz)
    source = EmulatorSource(target, 4)
    fast = EmulatorSource(replace(target, machine=machine), 4)
    work = emulator.KernelWork("k", 10, 5, 1000, serial=1e6, parallel=4e6)
    one, four = target.emulation.fit(1), target.emulation.fit(4)
    clock = target.machine.clock_hz
    busy = (one.issue * 1e6 + four.issue * 4e6) / clock
    assert source.latency(work).seconds == pytest.approx(busy + 1000 * four.line_s)
    assert fast.latency(work).seconds == pytest.approx(busy / 2 + 1000 * four.line_s)
    serial = replace(work, parallel=0.0)
    alone = one.issue * 1e6 / clock + 1000 * one.line_s
    assert source.latency(serial).seconds == pytest.approx(alone)


def test_operator_is_measured_once():
    source = open_source("emulator", get("arm_a53"), 1)
    graph = parse(CONVOLUTION)
    found = source.operator(graph)
    # Vectors of four, and at most a fourth of the multiplications by Winograd's F(4x4).
    assert found.seconds > 32 * 16 * 9 * 28 * 28 / 4 / 4 / 1.2e9
    assert source.operator(graph) is found


def test_no_emulator_for_this_machine():
    with pytest.raises(EmulatorUnavailable, match="no emulator for host"):
        open_source("emulator", get("host"))


def kernel(name: str) -> KernelTime:
    return KernelTime(name, Estimate(1.0, 0.0, "emulator", "arm_a53"))


def test_assign():
    calls = [{"function": f, "operator": o} for f, o in (("a", "x"), ("a", "y"))]
    kernels = [kernel(name) for name in ("a", "glue", "a", RUNTIME)]
    assert assign(kernels, calls) == ["x", None, "y", None]
    with pytest.raises(Unsupported, match="1 kernels of the package"):
        assign(kernels[:2], calls)
