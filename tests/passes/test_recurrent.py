"""Recurrent layers: templates against torch's own modules, and the code of scans."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.serialize import network_from_json, network_to_json
from gos_fx.passes.trace import trace


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


class Outputs(nn.Module):
    """The results of a layer that are named by their places in ``used``."""

    def __init__(self, layer: nn.Module, used: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.used = layer, used

    def forward(self, x: Tensor, h: Any = None, c: Any = None) -> Any:
        states = h if c is None else (h, c)
        result = self.layer(x) if h is None else self.layer(x, states)
        if 2 in self.used:
            found = (result[0], result[1][0], result[1][1])
        elif isinstance(self.layer, nn.LSTM) and 1 in self.used:
            found = (result[0], result[1][0])
        else:
            found = result
        return tuple(found[i] for i in self.used)


class FromZeros(Outputs):
    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x)


def lowered(model: nn.Module, *inputs: Tensor) -> tuple[fx.GraphModule, Operator]:
    traced = trace(model.eval(), inputs)
    (operator,) = find_operators(traced)
    return traced, operator


def emitted(model: nn.Module, *inputs: Tensor) -> fx.GraphModule:
    traced, operator = lowered(model, *inputs)
    assert operator.template is not None, operator.reason
    module = emit_operator(operator.template, operator.bindings, operator.weights)
    return replace_operators(traced, [(operator, module)])


def check(model: nn.Module, *inputs: Tensor) -> None:
    for a, b in zip(emitted(model, *inputs)(*inputs), model(*inputs), strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))


SETTINGS = list(itertools.product((True, False), repeat=3))


@pytest.mark.parametrize(("first", "bias", "both"), SETTINGS)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_layers(kind: Any, first: bool, bias: bool, both: bool) -> None:
    """Two layers, all results, from zeros and from given states."""
    layer = kind(5, 7, 2, batch_first=first, bias=bias, bidirectional=both)
    x = torch.randn(3, 4, 5)
    states = torch.randn(2, 4 if both else 2, 3 if first else 4, 7)
    used, given = ((0, 1, 2), (*states,)) if kind is nn.LSTM else ((0, 1), states[:1])
    check(Outputs(layer, used), x)
    check(Outputs(layer, used), x, *given)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("first", "bias", "both"), SETTINGS)
def test_projections(first: bool, bias: bool, both: bool) -> None:
    """Outputs and hidden states of three channels, cell states of seven."""
    more = {"batch_first": first, "bias": bias, "bidirectional": both}
    layer = nn.LSTM(5, 7, 2, proj_size=3, **more)
    x = torch.randn(3, 4, 5)
    states = (4 if both else 2, 3 if first else 4)
    check(Outputs(layer, (0, 1, 2)), x)
    check(
        Outputs(layer, (0, 1, 2)), x, torch.randn(*states, 3), torch.randn(*states, 7)
    )
    _, operator = lowered(Outputs(layer, (0,)), x)
    assert operator.template is not None
    assert parse(operator.template.text) == operator.template
    assert sum(w.numel() for w in operator.weights.values()) == sum(
        p.numel() for p in layer.parameters()
    )


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (2, 0)])
def test_only_what_is_used(used: tuple[int, ...]) -> None:
    model = Outputs(nn.LSTM(3, 4, batch_first=True), used)
    check(model, torch.randn(2, 5, 3))
    _, operator = lowered(model, torch.randn(2, 5, 3))
    assert len(operator.outputs) == len(used)


def test_other_activations() -> None:
    check(Outputs(nn.RNN(3, 4, nonlinearity="relu"), (0,)), torch.randn(2, 5, 3))


class Steps(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, h: Tensor, c: Tensor | None = None) -> Any:
        result = self.cell(x, h if c is None else (h, c))
        return (result[0], result[1]) if c is not None else (result,)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(kind: Any) -> None:
    states = torch.randn(2, 3, 4)[: 2 if kind is nn.LSTMCell else 1]
    check(Steps(kind(5, 4)), torch.randn(3, 5), *states)


def test_text() -> None:
    """Every gate is there, with weights of its own."""
    layer = nn.LSTM(3, 4, batch_first=True, bias=False)
    _, operator = lowered(Outputs(layer, (0,)), torch.randn(2, 6, 3))
    assert operator.template is not None
    text = operator.template.text
    assert parse(text) == operator.template
    _, _, body = text.partition("    def cell")
    assert (
        body.splitlines()[1:]
        == """\
        v0 = matmul(x, w_ii)
        v1 = matmul(h, w_hi)
        v2 = add(v0, v1)
        v3 = sigmoid(v2)
        v4 = matmul(x, w_if)
        v5 = matmul(h, w_hf)
        v6 = add(v4, v5)
        v7 = sigmoid(v6)
        v8 = matmul(x, w_ig)
        v9 = matmul(h, w_hg)
        v10 = add(v8, v9)
        v11 = tanh(v10)
        v12 = matmul(x, w_io)
        v13 = matmul(h, w_ho)
        v14 = add(v12, v13)
        v15 = sigmoid(v14)
        v16 = hadamard(v7, c)
        v17 = hadamard(v3, v11)
        v18 = add(v16, v17)
        v19 = tanh(v18)
        v20 = hadamard(v15, v19)
        v21 = bundle(v20, v18)
        return v21
    v0 = zeros(shape=(N, C_out))
    v1 = zeros(shape=(N, C_out))
    v2 = scan(x, v0, v1, w_ii, w_hi, w_if, w_hf, w_ig, w_hg, w_io, w_ho, body=cell, \
states=("h", "c"))
    v3 = result(v2, index=0)
    return v3
""".splitlines()
    )


def test_similar_layers_have_one_template() -> None:
    sizes = [(3, 4, 2, 5), (8, 6, 1, 9)]
    templates = {
        lowered(Outputs(nn.LSTM(i, o), (0,)), torch.randn(t, n, i))[1].template
        for i, o, n, t in sizes
    }
    assert len(templates) == 1 and None not in templates


def test_double_precision() -> None:
    """The interpreter in float64 is torch in float64."""
    layer = nn.GRU(3, 4, 2, batch_first=True, bidirectional=True)
    x = torch.randn(2, 5, 3)
    _, operator = lowered(Outputs(layer, (0,)), x)
    values = {name: w.double() for name, w in operator.weights.items()}
    found = evaluate(operator.concrete, values | {"x": x.double()})
    assert torch.allclose(found, layer.double()(x.double())[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("layer", "x", "reason"),
    [
        (nn.LSTM(3, 4), torch.zeros(5, 3), "one tensor with a batch"),
    ],
)
def test_refused(layer: nn.Module, x: Tensor, reason: str) -> None:
    _, operator = lowered(Outputs(layer, (0,)), x)
    assert operator.template is None and reason in operator.reason


@pytest.fixture
def network() -> fx.GraphModule:
    layer = nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True)
    return emitted(FromZeros(layer, (0, 2)), torch.randn(2, 6, 3))


def test_emitted_code_survives(network: fx.GraphModule) -> None:
    """Copies, pickles and exports compute the same, for any batch."""
    x = torch.randn(5, 6, 3)
    expected = network(x)
    exported = torch.export.export(network, (x,)).module()
    for other in (
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
        exported,
    ):
        for a, b in zip(other(x), expected, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-6)
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.zero_()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x)[0], expected[0])


def test_every_gate_trains(network: fx.GraphModule) -> None:
    with torch.enable_grad():
        network(torch.randn(2, 6, 3))[0].square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert len(gradients) == 64
    assert all(g is not None and bool(g.abs().max() > 0) for g in gradients)


def test_an_emitted_layer_is_found_again(network: fx.GraphModule) -> None:
    (operator,) = find_operators(trace(network, (torch.randn(4, 6, 3),)))
    assert operator.template is not None and operator.bindings["N"] == 4


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(3, 4, 2, bias=False, batch_first=True, bidirectional=True),
        nn.GRU(3, 4),
        nn.RNN(3, 4, nonlinearity="relu"),
    ],
)
def test_saved_without_code(layer: nn.Module) -> None:
    x = torch.randn(2, 5, 3)
    network = trace(FromZeros(layer, (0,)).eval(), (x,))
    data = json.loads(json.dumps(network_to_json(network)))
    again = network_from_json(data, network.state_dict())
    assert torch.equal(again(x)[0], network(x)[0])
