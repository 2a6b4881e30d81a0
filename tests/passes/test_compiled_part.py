"""What goes to the compiler as an instruction graph, and what as torch code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from gos_fx.ir.parser import parse
from gos_fx.passes.compiled_part import compiled_parts
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.make_opaque import OpaqueOperator, make_opaque
from gos_fx.passes.nested import largest_difference
from gos_fx.passes.operators import find_operators
from gos_fx.passes.trace import trace

IMAGE, TOKENS = (2, 4, 6, 5), (2, 5, 8)


def values(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def parts(model: nn.Module, shape: tuple[int, ...]) -> dict[str, list[str]]:
    """The instructions of each opaque operator; the network computes the same."""
    opaque = make_opaque(model.eval(), (values(shape),))
    with torch.no_grad():
        found, wanted = opaque(values(shape)), model(values(shape))
    assert largest_difference(found, wanted) <= 1e-5
    return {
        name: [node.opcode for node in parse(module.graph).nodes]
        for name, module in opaque.named_modules()
        if isinstance(module, OpaqueOperator)
    }


@pytest.mark.parametrize(
    ("activation", "last"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU6(), "min"),
        (nn.Hardswish(), "hadamard"),
        (nn.Hardsigmoid(), "min"),
        (nn.Dropout(), "add"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_activation_goes_with_the_convolution(
    activation: nn.Module, last: str
) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), activation)
    found = parts(model, IMAGE)
    assert list(found) == ["0"] and found["0"][-1] == last


@pytest.mark.parametrize(
    ("layer", "shape", "found"),
    [
        (nn.Conv1d(5, 4, 3), TOKENS, "relu"),
        (nn.ConvTranspose1d(5, 4, 3, 2), TOKENS, "relu"),
        (nn.ConvTranspose2d(4, 2, 3), IMAGE, "relu"),
        (nn.ConvTranspose2d(4, 2, 4, 2, 1), IMAGE, "relu"),
        (nn.AdaptiveAvgPool2d(4), IMAGE, "matmul"),
    ],
    ids=str,
)
def test_layers_that_the_importer_does_not_know(
    layer: nn.Module, shape: tuple[int, ...], found: str
) -> None:
    assert parts(nn.Sequential(layer, nn.ReLU()), shape)["0"][-1] == found


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GELU(), nn.ELU(), nn.PReLU()])
def test_one_that_the_importer_knows_better_stays(activation: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), activation, nn.Conv2d(4, 2, 1))
    found = parts(model, IMAGE)
    assert list(found) == ["0", "2"]
    assert all(it == ["cross_correlation", "sum", "add"] for it in found.values())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), IMAGE),
        (nn.LayerNorm(8), TOKENS),
        (nn.GroupNorm(2, 4), IMAGE),
        (nn.GELU(), TOKENS),
        (nn.Hardswish(), IMAGE),
        (nn.Dropout(), IMAGE),
        (nn.Softmax(-1), TOKENS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_layers_stay_torch_code(layer: nn.Module, shape: tuple[int, ...]) -> None:
    assert not parts(nn.Sequential(layer), shape)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def test_attention_stays_torch_code() -> None:
    assert not parts(Attention(), TOKENS)


class States(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 3, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps, (_, cell) = self.lstm(x)
        return steps, cell


def test_a_recurrent_layer_is_one_operator_of_several_results() -> None:
    found = parts(States(), TOKENS)
    assert list(found) == ["lstm"]
    assert "scan" in found["lstm"] and found["lstm"][-1] == "bundle"


def emitted(model: nn.Module, shape: tuple[int, ...]) -> fx.GraphModule:
    traced = trace(model.eval(), (values(shape),))
    pairs = [
        (op, emit_operator(op.template, op.bindings, op.weights))
        for op in find_operators(traced)
        if op.template is not None
    ]
    return replace_operators(traced, pairs)


@pytest.mark.parametrize("model", [States(), Attention(), nn.Sequential(nn.GELU())])
def test_what_was_emitted_is_compiled_from_its_graph(model: nn.Module) -> None:
    assert len(parts(emitted(model, TOKENS), TOKENS)) == 1


def test_a_part_is_an_operator_of_its_own() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.SiLU()).eval()
    traced = trace(model, (values(IMAGE),))
    (whole,) = find_operators(traced)
    (part,) = compiled_parts(traced, [whole])
    assert whole.modules == ("0", "1", "2") and part.modules == ("0", "1")
    assert part.inputs == whole.inputs and part.outputs == ("_1",)
    assert part.template is not None and part.template.nodes[-1].opcode == "add"
