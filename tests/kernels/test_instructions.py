"""Every instruction that is plain loops, on this machine and as ARM code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gos_fx.ir.fusion import NO_CODE, SCHEDULE
from gos_fx.ir.opcode import OPCODES
from gos_fx.kernels import schedules  # noqa: F401  (registers all functions)
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.linear_algebra.table import ALGORITHMS
from gos_fx.kernels.te_instructions import TE_INSTRUCTIONS
from gos_fx.kernels.te_kernels import KERNEL_OPCODES


def load(name: str):
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FORMS = load("instruction_texts")
TEXTS = {**FORMS.TEXTS, **FORMS.BUNDLES}
ROWS = "map[3, 3, 3]"
# Of a sum of a few dozen numbers in float32; erf and exp are approximations.
TOLERANCE = 2e-6


def differences(texts, module, inputs, found) -> list[str]:
    """The cases that are further from float64 than the tolerance of their scale."""
    names = []
    for name, graph in zip(texts, module.graphs, strict=True):
        names += [name] * len(graph.result.values)
    with torch.no_grad():
        expected = module.double()(*(x.double() for x in inputs))
    module.float()
    wrong = []
    for name, a, b in zip(names, expected, found, strict=True):
        b = torch.as_tensor(b)
        assert a.shape == b.shape, name
        scale = max(1.0, float(a.abs().max()))
        error = float((a.double() - b.double()).abs().max()) / scale
        if not error <= TOLERANCE:
            wrong.append(f"{name}: {error:.1e}\n{texts[name]}")
    return wrong


def test_host(operators, make_package, tmp_path):
    module = operators(TEXTS)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "host", tmp_path)
    for threads in (1, 2):
        found = HostModule.from_package(package, threads)(*inputs)
        assert not differences(TEXTS, module, inputs, found)


# The program that runs a package takes so many inputs and outputs.
PARTS = [dict([*TEXTS.items()][i::4]) for i in range(4)]


@pytest.mark.qemu
@pytest.mark.parametrize("texts", PARTS, ids=range(4))
def test_arm_a53(qemu, operators, make_package, tmp_path, texts):
    module = operators(texts)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "arm_a53", tmp_path)
    found = emulate(package, [x.numpy() for x in inputs], threads=2)
    assert not differences(texts, module, inputs, found)


def test_norms_of_what_is_no_number(operators, make_package, tmp_path):
    calls = {
        "matrix": 'matrix_norm(x, ord="inf")',
        "columns": 'vector_norm(x, ord="inf", axis="t")',
        "rows": 'vector_norm(x, ord="inf", axis="co")',
    }
    texts = {
        name: FORMS.unary("map[3]" if name == "matrix" else "map[3, 3]", call, ROWS)
        for name, call in calls.items()
    }
    module = operators(texts)
    x = torch.arange(-13.0, 14.0).view(3, 3, 3)
    x[1, 2, 0], x[2, 0, 2] = torch.nan, torch.inf
    package = make_package(module, (x,) * 3, "host", tmp_path)
    found = HostModule.from_package(package, 1)(x, x, x)
    for a, b in zip(module(x, x, x), found, strict=True):
        torch.testing.assert_close(torch.as_tensor(b), a, equal_nan=True)


class Table(nn.Module):
    """Rows of a table by whole numbers, some of them outside of it."""

    TEXT = """\
def f(i: map[2, 7, int64], table: weight[5, 3]) -> map[2, 7, 3]:
    v0 = gather(table, i)
    return v0
"""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 3))

    def forward(self, i):
        return torch.relu(torch.ops.gos_fx.operator(self.TEXT, [i, self.table]))


def test_gather(make_package, tmp_path):
    module = Table().eval()
    inside = torch.tensor([[0, 1, 2, 3, 4, 4, 0], [3, 2, 1, 0, 1, 2, 3]])
    package = make_package(module, (inside,), "host", tmp_path)
    compiled = HostModule.from_package(package, 1)
    outside = inside.clone()
    outside[0, :2] = torch.tensor([-(2**40), 2**40])
    (found,) = map(torch.as_tensor, compiled(outside))
    expected = module.table[outside.clamp(0, 4)].relu()
    np.testing.assert_array_equal(found.numpy(), expected.detach().numpy())


class Apart(nn.Module):
    """Operators that no network takes in: whole numbers, and a number alone."""

    ROWS = """\
def f(i: map[2, 7, int64], table: weight[5, 3]) -> (map[2, 7, 3], map[2, 7, 3]):
    v0 = gather(table, i)
    v1 = exp(v0)
    v2 = bundle(v0, v1)
    return v2
"""
    DET = """\
def f(x: map[3, 3]) -> map[()]:
    v0 = det(x)
    return v0
"""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 3))

    def forward(self, i, x):
        a, b = torch.ops.gos_fx.operator_bundle(self.ROWS, [i, self.table])
        return torch.relu(a) + b, torch.ops.gos_fx.operator(self.DET, [x]) * x


def test_operators_apart(make_package, tmp_path):
    module = Apart().eval()
    inputs = torch.randint(0, 5, (2, 7)), torch.randn(3, 3)
    package = make_package(module, inputs, "host", tmp_path)
    found = HostModule.from_package(package, 1)(*inputs)
    for a, b in zip(module(*inputs), found, strict=True):
        torch.testing.assert_close(torch.as_tensor(b), a.detach())


def test_every_instruction_has_a_kernel():
    written = set(TE_INSTRUCTIONS) | set(ALGORITHMS) | set(NO_CODE) | {"scan"}
    assert not set(OPCODES) - written - set(SCHEDULE)
    assert not set(KERNEL_OPCODES) & set(OPCODES)


def test_every_instruction_is_tried():
    """In the texts here or in those of the other tests of kernels."""
    used = "".join([*TEXTS.values(), *load("operator_texts").NAMED.values()])
    others = {*ALGORITHMS, "scan", "gather"}
    assert [n for n in OPCODES if f"{n}(" not in used and n not in others] == []
