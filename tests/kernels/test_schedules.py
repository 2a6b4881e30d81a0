"""Every schedule against the interpreter, on this machine and as ARM code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule


def load_texts():
    path = Path(__file__).parent / "operator_texts.py"
    spec = importlib.util.spec_from_file_location("operator_texts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TEXTS = load_texts()
RANDOM = {f"random {i}": TEXTS.random_convolution(i) for i in range(24)}
# A sum of a few hundred products of numbers around one, in float32.
TOLERANCE = 1e-5


def differences(texts, expected, found) -> list[str]:
    """The cases that are off by more than the tolerance of their output's scale."""
    wrong = []
    for (name, text), a, b in zip(texts.items(), expected, found, strict=True):
        scale = max(1.0, float(a.abs().max()))
        error = float((a - torch.as_tensor(b)).abs().max()) / scale
        if a.shape != b.shape or not error <= TOLERANCE:
            wrong.append(f"{name}: {error:.1e}\n{text}")
    return wrong


@pytest.mark.parametrize("texts", [TEXTS.NAMED, RANDOM], ids=["named", "random"])
def test_host(operators, make_package, tmp_path, texts):
    module = operators(texts)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "host", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    for threads in (1, 2):
        found = HostModule.from_package(package, threads)(*inputs)
        assert not differences(texts, expected, found)


def test_activations_over_the_whole_range(operators, make_package, tmp_path):
    texts = {
        opcode: f"def f(x: map[1, 4001]) -> map[1, 4001]:\n"
        f"    v0 = {opcode}(x)\n    return v0\n"
        for opcode in ("exp", "sigmoid", "tanh")
    }
    module = operators(texts)
    x = torch.linspace(-120, 120, 4001)[None]
    package = make_package(module, (x, x, x), "host", tmp_path)
    found = HostModule.from_package(package, 1)(x, x, x)
    for a, b in zip(module(x, x, x), found, strict=True):
        torch.testing.assert_close(b, a, rtol=2e-6, atol=1e-6)


@pytest.mark.qemu
def test_arm_a53(qemu, operators, make_package, tmp_path):
    texts = {**TEXTS.NAMED, **dict(list(RANDOM.items())[:8])}
    module = operators(texts)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "arm_a53", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    found = emulate(package, [x.numpy() for x in inputs], threads=2)
    assert not differences(texts, expected, found)
