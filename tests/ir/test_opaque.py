"""The custom operator under eager mode and export; digests across processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import torch
from torch import Tensor, nn

from gos_fx.ir import opaque  # noqa: F401  (declares the operator)
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse

TEXT = """\
def linear(x: map[2, 8], *, w: weight[4, 8], b: weight[4]) -> map[2, 4]:
    v0 = transpose(w, axes=(1, 0))
    v1 = matmul(x, v0)
    v2 = add(v1, b)
    v3 = tile(v2, co=4)
    return v3"""


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 8))
        self.b = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.ops.gos_fx.operator(TEXT, [x, self.w, self.b]))


def test_it_is_the_interpreter() -> None:
    layer, x = Layer(), torch.randn(2, 8)
    values = {"x": x, "w": layer.w, "b": layer.b}
    with torch.no_grad():
        assert torch.equal(layer(x), evaluate(parse(TEXT), values).relu())


def test_export_keeps_the_call_closed() -> None:
    layer, x = Layer().eval(), torch.randn(2, 8)
    program = torch.export.export(layer, (x,))
    calls = [n for n in program.graph.nodes if n.op == "call_function"]
    assert [str(n.target) for n in calls] == [
        "gos_fx.operator.default",
        "aten.relu.default",
    ]
    assert calls[0].args[0] == TEXT and calls[0].meta["val"].shape == (2, 4)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer)
    with torch.no_grad():
        assert torch.equal(loaded.module()(x), layer(x))
    assert parse(calls[0].args[0]).digest == parse(TEXT).digest


def test_operator_checks() -> None:
    inputs = [torch.randn(2, 8), torch.randn(4, 8), torch.randn(4)]
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.gos_fx.operator, (TEXT, inputs), test_utils=tests)


def test_digest_is_the_same_in_every_process(conv: Graph) -> None:
    code = (
        "import sys, gos_fx.instructions\n"
        "from gos_fx.ir.parser import parse\n"
        "print(parse(sys.stdin.read()).digest)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=conv.text,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == conv.digest, run.stderr
