"""gos_fx.lower: whole models as instruction graphs, and back."""

from __future__ import annotations

import copy
import importlib.util
import io
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gos_fx
from gos_fx.errors import BadExampleInputs, TrainingModeError, UntraceableModel
from gos_fx.ir.parser import parse
from gos_fx.passes.nested import largest_difference
from gos_fx.passes.source import source_of

TORCHVISION = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="torchvision is not installed (extra test)",
)
SMALL = (2, 3, 64, 64)
NETWORKS = {
    "resnet18": SMALL,
    "mobilenet_v2": SMALL,
    "mobilenet_v3_small": SMALL,
    "mobilenet_v3_large": SMALL,
    "inception_v3": (2, 3, 80, 80),
    "shufflenet_v2_x0_5": SMALL,
    "efficientnet_b0": (2, 3, 32, 32),
}


def values(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(
    model: nn.Module, inputs: Any, others: tuple[Any, ...] = ()
) -> gos_fx.LoweredModel:
    """All of it is lowered, and computes the same on these inputs and on others."""
    before = copy.deepcopy(model.state_dict())
    lowered = gos_fx.lower(model, inputs)
    assert lowered.coverage.share == 1.0 and not lowered.coverage.missing
    back = lowered.to_graph_module()
    assert not back.training
    for given in (inputs, *others):
        found, wanted = _run(back, given), _run(model, given)
        assert largest_difference(found, wanted) <= 1e-5
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    return lowered


def _run(model: nn.Module, inputs: Any) -> Any:
    with torch.no_grad():
        if isinstance(inputs, dict):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


@TORCHVISION
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torchvision(name: str) -> None:
    from benchmarks.torchvision_models import network

    n, *rest = NETWORKS[name]
    model, x = network(name), values((n, *rest))
    lowered = check(model, x, (values((3, *rest), 1),))
    back = lowered.to_graph_module()
    for node in back.graph.nodes:  # nothing of the original is left
        if node.op == "call_module":
            assert source_of(back.get_submodule(str(node.target))) is not None
        elif node.target is not operator.getitem:  # takes the parts of a bundle
            assert node.op in ("placeholder", "output") or "number" in node.meta


@TORCHVISION
def test_vision_transformer() -> None:
    from benchmarks.torchvision_models import network

    network("resnet18")  # declares what torchvision needs
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(32, 8, 2, 4, 64, 128).eval()
    nn.init.normal_(model.heads.head.weight, std=0.1)
    nn.init.normal_(model.class_token)
    lowered = check(model, values((2, 3, 32, 32)), (values((3, 3, 32, 32), 1),))
    attention = [op for op in lowered.operators if "attention" in op.name]
    assert len(attention) == 2
    opcodes = [node.opcode for node in attention[0].concrete.nodes]
    assert "softmax" in opcodes and opcodes.count("matmul") >= 4
    one = gos_fx.lower(model, values((1, 3, 32, 32))).to_graph_module()
    x = values((4, 3, 32, 32), 2)
    assert largest_difference(_run(one, x), _run(model, x)) <= 1e-5


class Classifier(nn.Module):
    """Embedding, two layers of LSTM in both directions, the last step's classes."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.lstm = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        steps, _ = self.lstm(self.words(tokens))
        return self.head(steps[:, -1])


def tokens(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 50, (n, 7), generator=generator)


def test_lstm_classifier() -> None:
    torch.manual_seed(0)
    lowered = check(Classifier().eval(), tokens(2), (tokens(3, 1), tokens(1, 2)))
    lstm = next(op for op in lowered.operators if op.name == "lstm")
    assert sum(n.opcode == "scan" for n in lstm.concrete.nodes) == 4
    assert len(lstm.outputs) == 1  # the states are not read


class Sequences(nn.Module):
    """Several inputs, one of which may be left out; results in a dict and a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 6)
        self.mix = nn.Linear(6, 3)

    def forward(
        self, steps: Tensor, other: Tensor, state: Tensor | None = None
    ) -> dict[str, Any]:
        found, last = self.gru(steps + other, state)
        return {"steps": found, "more": (last, self.mix(found.mean(0)))}


def test_several_inputs_and_results() -> None:
    torch.manual_seed(0)
    model = Sequences().eval()
    x, y = values((5, 2, 4)), values((5, 2, 4), 1)
    lowered = check(model, {"steps": x, "other": y})
    assert len(next(op for op in lowered.operators if op.name == "gru").outputs) == 2
    lowered = check(model, (x, y, values((1, 2, 6), 2)))
    assert lowered.operators[1].inputs == ("add", "state")


class Shared(nn.Module):
    """A layer that is called twice at two sizes, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.narrow, self.wide = nn.Linear(4, 6), nn.Linear(4, 6)
        self.wide.weight = self.narrow.weight

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.conv(torch.relu(self.conv(x))[..., ::2, ::2])
        x = x.mean((2, 3))
        return x, [self.narrow(x), self.wide(x)]


def test_what_shares_weights_still_does() -> None:
    torch.manual_seed(0)
    model = Shared().eval()
    lowered = check(model, values((2, 4, 8, 8)), (values((3, 4, 8, 8), 1),))
    back = lowered.to_graph_module()
    assert sum(p.numel() for p in back.parameters()) == sum(
        p.numel() for p in model.parameters()
    )
    with torch.no_grad():
        back.conv.w.zero_()
    assert not back.conv_1.w.any()


class Partly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4)
        self.distance = nn.Bilinear(4, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.distance(self.head(x), x).cumsum(-1)


def test_what_has_no_graph_says_why_and_stays() -> None:
    torch.manual_seed(0)
    model, x = Partly().eval(), values((2, 4))
    lowered = gos_fx.lower(model, x)
    assert lowered.coverage.share == pytest.approx(1 / 3)
    assert lowered.coverage.missing == {
        "distance": "Bilinear has no lowering",
        "cumsum": "cumsum has no lowering",
    }
    text = str(lowered.coverage)
    assert "1 of 3" in text and "distance: Bilinear has no lowering" in text
    assert "# cumsum: distance -> cumsum\n# no instruction graph: cumsum" in str(
        lowered
    )
    assert largest_difference(lowered.to_graph_module()(x), model(x)) <= 1e-6


def test_the_text_is_graphs_with_their_sizes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()).eval()
    lowered = gos_fx.lower(model, values((2, 3, 6, 5)))
    lowered.print()
    assert capsys.readouterr().out == f"{lowered}\n"
    assert str(lowered).startswith(
        "# 0: input_1 -> _1\n"
        "def conv2d(x: map[2, 3, 6, 5], *, w: weight[4, 3, 3, 3], b: weight[4])"
    )
    for found in lowered.operators:
        assert found.concrete.text in str(lowered)
        assert parse(found.concrete.text) == found.concrete


@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        lambda module: pickle.loads(pickle.dumps(module)),
        lambda module: torch.export.export(module, (tokens(2),)).module(),
    ],
    ids=["deepcopy", "pickle", "export"],
)
def test_the_emitted_model_lives_on(again: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    back = gos_fx.lower(Classifier().eval(), tokens(2)).to_graph_module()
    assert torch.equal(again(back)(tokens(2, 3)), back(tokens(2, 3)))


def test_the_emitted_model_keeps_its_state() -> None:
    torch.manual_seed(0)
    one = gos_fx.lower(Classifier().eval(), tokens(2)).to_graph_module()
    two = gos_fx.lower(Classifier().eval(), tokens(2)).to_graph_module()
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    two.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(one(tokens(3)), two(tokens(3)))


def test_the_emitted_model_is_lowered_again() -> None:
    torch.manual_seed(0)
    model = Classifier().eval()
    back = gos_fx.lower(model, tokens(2)).to_graph_module()
    again = gos_fx.lower(back, tokens(2))
    assert [op.template for op in again.operators] == [
        op.template for op in gos_fx.lower(model, tokens(2)).operators
    ]


def test_bad_input() -> None:
    with pytest.raises(TrainingModeError):
        gos_fx.lower(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), values((2, 2)))
    with pytest.raises(BadExampleInputs):
        gos_fx.lower(nn.Linear(2, 2).eval(), values((2, 3)))

    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UntraceableModel):
        gos_fx.lower(Branches().eval(), values((2, 3)))


def test_a_network_for_one_batch_alone() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(2, 3, 4) * 2 + 1

    lowered = check(Fixed().eval(), values((2, 12)))
    assert "N" not in str(lowered.operators[0].template)
