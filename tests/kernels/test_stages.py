"""Kernels without a rule of their own: chains, aggregations, softmax, moved data."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import gos_fx.instructions  # noqa: F401  (fills the instruction table)
from gos_fx.ir.fusion import partition
from gos_fx.ir.parser import parse
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.prim_func import build_kernel
from gos_fx.kernels.schedules.loops import vectors
from gos_fx.targets.target import get

SPEC = importlib.util.spec_from_file_location(
    "window_texts", Path(__file__).parent / "window_texts.py"
)
TEXTS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TEXTS)
RANDOM = {f"random {i}": TEXTS.random_stage(i) for i in range(32)}
TOLERANCE = 1e-5


class Rows(nn.Module):
    """What torch has operators of its own for, over rows of odd lengths."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.plain = nn.LayerNorm(33, elementwise_affine=False)
        self.scaled = nn.LayerNorm(197)
        with torch.no_grad():
            self.scaled.weight.normal_()
            self.scaled.bias.normal_()
        self.eval()

    def forward(self, x, y, z):
        return (
            self.plain(x),
            torch.relu(self.scaled(y)),
            torch.softmax(y, -1),
            torch.softmax(z, 1),
            z.mean(1),
            y.amax(-1),
        )

    def example_inputs(self):
        generator = torch.Generator().manual_seed(1)
        shapes = ((5, 33), (3, 7, 197), (2, 9, 4, 5))
        return tuple(5 * torch.randn(s, generator=generator) for s in shapes)


def wrong(texts, expected, found) -> list[str]:
    bad = []
    for (name, text), a, b in zip(texts.items(), expected, found, strict=True):
        scale = max(1.0, float(a.abs().max()))
        error = float((a - torch.as_tensor(b)).abs().max()) / scale
        if a.shape != b.shape or not error <= TOLERANCE:
            bad.append(f"{name}: {error:.1e}\n{text}")
    return bad


def test_host(operators, make_package, tmp_path):
    module = operators(RANDOM)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "host", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    for threads in (1, 2):
        found = HostModule.from_package(package, threads)(*inputs)
        assert not wrong(RANDOM, expected, found)


@pytest.mark.qemu
def test_arm_a53(qemu, operators, make_package, tmp_path):
    texts = dict(list(RANDOM.items())[:16])
    module = operators(texts)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "arm_a53", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    found = emulate(package, [x.numpy() for x in inputs], threads=2)
    assert not wrong(texts, expected, found)


def test_rows_of_torch(make_package, tmp_path):
    module = Rows()
    inputs = module.example_inputs()
    package = make_package(module, inputs, "host", tmp_path)
    found = HostModule.from_package(package, 1)(*inputs)
    with torch.no_grad():
        expected = module(*inputs)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(torch.as_tensor(b), a, rtol=1e-5, atol=1e-5)


def test_vectors_make_up_an_axis():
    for extent in range(1, 70):
        places = []
        for first, count, width in vectors(extent, 16):
            assert width & (width - 1) == 0
            places += [first + i for i in range(count * width)]
        assert places == list(range(extent))
    assert list(vectors(23, 16)) == [(0, 1, 16), (16, 1, 4), (20, 1, 2), (22, 1, 1)]


def assembly_of(text: str) -> str:
    import tvm

    graph, target = parse(text), get("arm_a53")
    (kernel,) = partition(graph)
    function = build_kernel(kernel, graph.types, target.machine).function
    machine = tvm.target.Target(dict(target.tvm))
    return tvm.compile(function, target=machine).mod.inspect_source("asm")


CHAIN = """\
def f(x: map[1, 33, 29, 31], b: weight[33]) -> map[1, 33, 29, 31]:
    v0 = add(x, b)
    v1 = relu(v0, slope=0.0)
    return v1
"""


def test_a_width_that_is_no_multiple_is_vectors_and_a_tail():
    assembly = assembly_of(CHAIN)
    # 33 channels: twice four vectors of four, and one number.
    wide = len(re.findall(r"fmax\w*\tv\d+\.4s", assembly))
    assert wide == 8 * len(re.findall(r"fmax\w*\ts\d+", assembly)) > 0
    softmax = assembly_of(
        'def f(x: map[9, 197]) -> map[9, 197]:\n    v0 = softmax(x, axis="co")\n'
        "    return v0\n"
    )
    assert "expf" not in softmax
    assert len(re.findall(r"fdiv\t", softmax)) == 1  # one quotient for each row


def test_a_tile_is_followed():
    steered = CHAIN.replace("    return v1", "    v2 = tile(v1, co=5)\n    return v2")
    assert assembly_of(steered) != assembly_of(CHAIN)
