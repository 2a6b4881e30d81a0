"""Scans as compiled code: a loop over time, equal to what the interpreter computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gos_fx
from gos_fx.ir.network import Network
from gos_fx.ir.parser import parse
from gos_fx.kernels import emulator
from gos_fx.kernels.build import BuildResult
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.package import Package
from gos_fx.kernels.scan import KEPT, hoist
from gos_fx.passes.operators import find_operators
from gos_fx.passes.trace import trace


class Results(nn.Module):
    """All results of a recurrent layer, from given states where ``given``."""

    def __init__(self, layer: nn.Module, given: bool = False) -> None:
        super().__init__()
        self.layer, self.given = layer, given

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        if isinstance(self.layer, nn.LSTM):
            y, (h, c) = self.layer(x, (h, c)) if self.given else self.layer(x)
            return y, h, c
        y, h = self.layer(x)
        return y, h


def text_of(layer: nn.RNNBase, n: int, length: int, given: bool = False) -> str:
    """The instructions of a layer at one site."""
    x = torch.zeros(n, length, layer.input_size)
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    h = torch.zeros(rows, n, layer.hidden_size)
    traced = trace(Results(layer.eval(), given), (x, h, h))
    (operator,) = find_operators(traced)
    return operator.concrete.text


PLAIN = """\
def rnn(x: map[2, 5, 12], h0: map[2, 20], *, w: weight[20, 12], u: weight[20, 20], \
b: weight[20]) -> map[2, 5, 20]:
    def cell(x: map[2, 12], h: map[2, 20], *, w: weight[20, 12], u: weight[20, 20], \
b: weight[20]) -> map[2, 20]:
        v0 = transpose(w, axes=(1, 0))
        v1 = matmul(x, v0)
        v2 = transpose(u, axes=(1, 0))
        v3 = matmul(h, v2)
        v4 = scalar(value=0.5)
        v5 = hadamard(b, v4)
        v6 = add(v1, v5)
        v7 = add(v6, v3)
        v8 = tanh(v7)
        return v8
    v0 = scan(x, h0, w, u, b, body=cell, states=("h",))
    v1 = result(v0, index=0)
    return v1
"""
# The next value of each state is made of the other one as it was.
EXCHANGE = """\
def exchange(x: map[2, 5, 6], h0: map[2, 6], c0: map[2, 6]) -> \
(map[2, 5, 6], map[2, 5, 6]):
    def cell(x: map[2, 6], h: map[2, 6], c: map[2, 6]) -> (map[2, 6], map[2, 6]):
        v0 = add(h, x)
        v1 = tanh(v0)
        v2 = bundle(c, v1)
        return v2
    v0 = scan(x, h0, c0, body=cell, states=("h", "c"), reverse=True)
    return v0
"""
IMAGES = """\
def images(x: map[2, 3, 4, 6, 6], h0: map[2, 4, 6, 6], *, k: weight[4, 4, 3, 3], \
b: weight[4]) -> map[2, 3, 4, 6, 6]:
    def cell(x: map[2, 4, 6, 6], h: map[2, 4, 6, 6], *, k: weight[4, 4, 3, 3], \
b: weight[4]) -> map[2, 4, 6, 6]:
        v0 = cross_correlation(h, k, dilation=(1, 1), groups=1, stride=(1, 1), \
padding=(1, 1, 1, 1))
        v1 = sum(v0, axis="ci")
        v2 = add(v1, b)
        v3 = hadamard(v2, x)
        v4 = tanh(v3)
        v5 = reshape(v4, shape=(2, 6, 4, 6))
        v6 = transpose(v5, axes=(0, 2, 1, 3))
        return v6
    v0 = scan(x, h0, k, b, body=cell, states=("h",))
    v1 = result(v0, index=0)
    return v1
"""
# Matrices, a kernel with several results, and steps that are seen in other memory.
MATRICES = """\
def matrices(x: map[2, 5, 3, 3], h0: map[2, 3, 3]) -> map[2, 5, 3, 3]:
    def cell(x: map[2, 3, 3], h: map[2, 3, 3]) -> map[2, 3, 3]:
        v0 = matmul(x, h)
        v1 = qr(v0)
        v2 = result(v1, index=0)
        v3 = result(v1, index=1)
        v4 = matmul(v3, v2)
        return v4
    v0 = transpose(x, axes=(0, 1, 3, 2))
    v1 = scan(v0, h0, body=cell, states=("h",))
    v2 = result(v1, index=0)
    return v2
"""


# A scan in a scan; rows of three axes.
NESTED = """\
def nested(x: map[2, 3, 5, 4], h0: map[2, 4], *, w: weight[4, 4]) -> map[2, 3, 4]:
    def row(x: map[2, 5, 4], h: map[2, 4], *, w: weight[4, 4]) -> map[2, 4]:
        def cell(x: map[2, 4], h: map[2, 4], *, w: weight[4, 4]) -> map[2, 4]:
            v0 = matmul(h, w)
            v1 = add(v0, x)
            v2 = tanh(v1)
            return v2
        v0 = scan(x, h, w, body=cell, states=("h",))
        v1 = result(v0, index=0)
        v2 = slice(v1, axis=1, start=4, size=1, step=1)
        v3 = reshape(v2, shape=(2, 4))
        return v3
    v0 = scan(x, h0, w, body=row, states=("h",))
    v1 = result(v0, index=0)
    return v1
"""


def texts() -> dict[str, str]:
    torch.manual_seed(0)
    return {
        "one row": text_of(nn.LSTM(16, 64, batch_first=True), 1, 4),
        "two layers, both directions": text_of(
            nn.LSTM(5, 8, 2, batch_first=True, bidirectional=True), 2, 4, given=True
        ),
        "gru, time first": text_of(nn.GRU(5, 20, bias=False), 3, 4),
        "projected": text_of(nn.LSTM(5, 8, proj_size=3, batch_first=True), 2, 3),
        "tiled": tiled(text_of(nn.LSTM(5, 8, batch_first=True), 2, 3)),
        "plain": PLAIN,
        "exchange": EXCHANGE,
        "images": IMAGES,
        "matrices": MATRICES,
        "nested": NESTED,
    }


def check(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max() / b.abs().max()) < 1e-4


@pytest.fixture(scope="module")
def network(operators: type) -> nn.Module:
    module: nn.Module = operators(texts())
    return module


def package(
    network: nn.Module, make_package: Callable[..., Package], target: str, to: Path
) -> Package:
    return make_package(network, network.example_inputs(), target, to)  # type: ignore[operator]


def expected(network: nn.Module) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return network(*network.example_inputs())  # type: ignore[no-any-return, operator]


def test_on_this_machine(network, make_package, tmp_path) -> None:
    made = package(network, make_package, "host", tmp_path)
    found = HostModule(made.library, 1)(*network.example_inputs())
    check(found, expected(network))


@pytest.mark.qemu
def test_as_arm_code(network, make_package, qemu, tmp_path) -> None:
    made = package(network, make_package, "arm_a53", tmp_path)
    inputs = [x.numpy() for x in network.example_inputs()]
    found = tuple(map(torch.from_numpy, emulator.run(made, inputs)))
    check(found, expected(network))


def test_time_is_a_loop(listing: Callable[[str, str], BuildResult]) -> None:
    """The code does not grow with the number of steps; their products are outside."""
    short, long = (listing(PLAIN.replace("5", n), "arm_a53") for n in ("5", "50"))
    bodies = [
        code.tir.partition("def gos_scan")[2].splitlines() for code in (short, long)
    ]
    bodies = [body[: body.index("")] for body in bodies]
    assert "        for t in range(50):" in bodies[1]
    assert len(bodies[0]) == len(bodies[1]) > 20
    assert [kernel["function"] for kernel in long.kernels] == [
        "gos_matmul_add",
        "gos_scan",
    ]


def test_tiles_of_products_outside_go_with_them() -> None:
    text = PLAIN.replace("add(v6, v3)", "add(tiled, v3)").replace(
        "        v7 =", "        tiled = tile(v6, co=4)\n        v7 ="
    )
    network = hoisted(text)
    (tile,) = (node for node in network.nodes if node.opcode == "tile")
    assert tile.type.shape == (10, 20) and tile.attrs == {"co": 4}


def hoisted(text: str) -> Network:
    return hoist(Network.of(parse(text)))


def test_what_needs_no_state_is_outside() -> None:
    network = hoisted(PLAIN)
    opcodes = [node.opcode for node in network.nodes if node.opcode != "scalar"]
    assert opcodes == [
        *("reshape", "transpose", "transpose", "hadamard", "matmul", "add", "reshape"),
        *("scan", "result"),
    ]
    (product,) = (node for node in network.nodes if node.opcode == "matmul")
    assert product.type.shape == (10, 20)  # rows of all steps
    (scan,) = (node for node in network.nodes if node.opcode == "scan")
    body = scan.attr("body")
    left = [node.opcode for node in body.nodes if node.opcode != "scalar"]
    assert left == ["matmul", "add", "tanh"]
    assert {v.name for v in body.maps} == {"h", "v6"}


def test_gates_have_one_product() -> None:
    """One of the input, outside, and one of the state; a tiled one stays alone."""
    text = text_of(nn.LSTM(5, 4, batch_first=True), 2, 6)
    for code, inside in ((text, [16]), (tiled(text), [12, 4])):
        network = hoisted(code)
        widths = [n.type.shape[1] for n in network.nodes if n.opcode == "matmul"]
        (scan,) = (node for node in network.nodes if node.opcode == "scan")
        body = scan.attr("body")
        assert widths == [16]
        found = [n.type.shape[1] for n in body.nodes if n.opcode == "matmul"]
        assert found == inside


def tiled(text: str) -> str:
    """An LSTM whose last product of the state has a tile."""
    before, product, after = text.rpartition("matmul(h, w_ho)\n")
    name = before.split()[-2]
    return f"{before}{product}        tiled = tile({name}, co=4)\n" + after.replace(
        f"({name}, b_ho)", "(tiled, b_ho)"
    )


def test_sequences_that_nobody_reads_are_not_written() -> None:
    text = text_of(nn.LSTM(5, 4, batch_first=True), 2, 6)
    text = text.replace(
        text[text.index("    v3 = result") :],
        "    v3 = result(v2, index=1)\n    return v3\n",
    )
    text = text.replace(
        text[text.index("->") : text.index(":\n")], "-> map[2, 6, 4]", 1
    )
    network = hoisted(text)
    (scan,) = (node for node in network.nodes if node.opcode == "scan")
    assert scan.attr(KEPT) == (1,) and len(scan.type.parts) == 1
    assert network.nodes[-1].attr("index") == 0


class Tagger(nn.Module):
    """Words to classes, with what a recurrent layer knows at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.layer = nn.LSTM(16, 24, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, 7)

    def forward(self, x: Tensor) -> Tensor:
        y, (_, c) = self.layer(self.embedding(x))
        return self.head(y) + c[-1].sum(-1)[:, None, None]


def test_a_model_compiles() -> None:
    torch.manual_seed(0)
    model, x = Tagger().eval(), torch.randint(0, 50, (2, 9))
    compiled = gos_fx.compile(model, "host", example_inputs=(x,), threads=1)
    kernels = [kernel["function"] for kernel in compiled.package.manifest["kernels"]]
    assert sum(name.startswith("gos_scan") for name in kernels) == 4
    with torch.no_grad():
        check(compiled(x), (model(x),))
