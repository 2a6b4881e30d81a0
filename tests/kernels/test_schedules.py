"""Every schedule against the interpreter, on this machine and as ARM code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from gos_fx.ir.opcode import OPCODES
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


@pytest.mark.qemu
def test_arm_a53(qemu, operators, make_package, tmp_path):
    texts = {**TEXTS.NAMED, **dict(list(RANDOM.items())[:8])}
    module = operators(texts)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "arm_a53", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    found = emulate(package, [x.numpy() for x in inputs], threads=2)
    assert not differences(texts, expected, found)


def test_every_instruction_has_a_te_function():
    from gos_fx.kernels.te_instructions import TE_INSTRUCTIONS

    assert set(TE_INSTRUCTIONS) == set(OPCODES)
    used = "".join([*TEXTS.NAMED.values()])
    assert [name for name in OPCODES if f"{name}(" not in used] == []
