"""Convolutions of rows and images, transposed ones, padding: as torch computes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gos_fx.passes.emit import emit_operator
from gos_fx.passes.operators import find_operators
from gos_fx.passes.trace import trace

IMAGE, ROW = (2, 6, 9, 8), (2, 6, 11)
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "row": (nn.Conv1d(6, 4, 3), ROW),
    "row, pointwise": (nn.Conv1d(6, 4, 1, bias=False), ROW),
    "row, settings": (nn.Conv1d(6, 4, 3, 2, 1, groups=2), ROW),
    "row, dilated": (nn.Conv1d(6, 4, 3, stride=3, padding=4, dilation=4), ROW),
    "row, depthwise": (nn.Conv1d(6, 12, 5, padding=2, groups=6), ROW),
    "row, same": (nn.Conv1d(6, 4, 4, padding="same"), ROW),
    "row, valid": (nn.Conv1d(6, 4, 4, padding="valid"), ROW),
    "row, reflect": (
        nn.Conv1d(6, 4, 5, stride=2, padding=3, padding_mode="reflect"),
        ROW,
    ),
    "row, circular": (
        nn.Conv1d(6, 4, 4, padding="same", padding_mode="circular"),
        ROW,
    ),
    "reflect": (nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), IMAGE),
    "reflect, strided": (
        nn.Conv2d(6, 8, 3, 2, (1, 2), dilation=(1, 2), padding_mode="reflect"),
        IMAGE,
    ),
    "replicate": (
        nn.Conv2d(6, 8, (3, 4), stride=3, padding=(2, 11), padding_mode="replicate"),
        IMAGE,
    ),
    "circular": (
        nn.Conv2d(6, 6, 3, padding=(9, 8), groups=6, padding_mode="circular"),
        IMAGE,
    ),
    "reflect without padding": (nn.Conv2d(6, 8, 3, padding_mode="reflect"), IMAGE),
    "reflect same": (
        nn.Conv2d(6, 8, (4, 3), 1, "same", (1, 2), padding_mode="reflect"),
        IMAGE,
    ),
    "dilation of one axis": (nn.Conv2d(6, 8, 3, dilation=(4, 1)), IMAGE),
    "dilation to the border": (nn.Conv2d(6, 8, (3, 2), dilation=(4, 7)), IMAGE),
    "dilation into the padding": (nn.Conv2d(6, 8, 3, padding=8, dilation=8), IMAGE),
    "dilation without reach": (nn.Conv2d(6, 8, 1, padding=1, dilation=5), IMAGE),
    "transposed row": (nn.ConvTranspose1d(6, 4, 3), ROW),
    "transposed row, settings": (
        nn.ConvTranspose1d(6, 4, 4, 3, 1, output_padding=2, groups=2, dilation=2),
        ROW,
    ),
    "transposed": (nn.ConvTranspose2d(6, 4, 3), IMAGE),
    "transposed, doubles": (nn.ConvTranspose2d(6, 4, 4, 2, 1, bias=False), IMAGE),
    "transposed, padded output": (
        nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1),
        IMAGE,
    ),
    "transposed, uneven": (
        nn.ConvTranspose2d(6, 9, (3, 2), (3, 2), (0, 1), (2, 0), groups=3),
        IMAGE,
    ),
    "transposed, depthwise": (
        nn.ConvTranspose2d(6, 12, 3, (1, 2), 2, groups=6, dilation=(2, 1)),
        IMAGE,
    ),
    "transposed, cropped": (nn.ConvTranspose2d(6, 4, 2, 2, 3), IMAGE),
    "transposed, kernel below stride": (nn.ConvTranspose2d(6, 4, 1, 3), IMAGE),
    "zero pad row": (nn.ZeroPad1d((2, 1)), ROW),
    "zero pad": (nn.ZeroPad2d((1, 2, 3, 4)), IMAGE),
    "reflection pad row": (nn.ReflectionPad1d(10), ROW),
    "reflection pad": (nn.ReflectionPad2d((7, 0, 1, 8)), IMAGE),
    "replication pad row": (nn.ReplicationPad1d((0, 30)), ROW),
    "replication pad": (nn.ReplicationPad2d((10, 1, 0, 2)), IMAGE),
    "circular pad row": (nn.CircularPad1d((3, 11)), ROW),
    "circular pad": (nn.CircularPad2d((1, 2, 0, 9)), IMAGE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_emitted_equals_original(name: str, agrees: Any) -> None:
    agrees(*LAYERS[name])


@pytest.mark.parametrize(
    ("layer", "other", "shapes"),
    [
        (
            nn.Conv1d(6, 4, 3, 2, 1),
            nn.Conv1d(4, 9, 5, padding="same"),
            (ROW, (1, 4, 30)),
        ),
        (
            nn.Conv2d(6, 4, 3, 2, 1, padding_mode="reflect"),
            nn.Conv2d(4, 9, 5, padding=(0, 2), padding_mode="reflect"),
            (IMAGE, (1, 4, 30, 7)),
        ),
        (
            nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1),
            nn.ConvTranspose2d(4, 9, 2, 3),
            (IMAGE, (1, 4, 3, 7)),
        ),
        (
            nn.ConvTranspose1d(6, 4, 3, 2, groups=2),
            nn.ConvTranspose1d(9, 3, 2, 4, groups=3),
            (ROW, (4, 9, 3)),
        ),
        (nn.ZeroPad2d(1), nn.ZeroPad2d((0, 2, 0, 0)), (IMAGE, (1, 2, 3, 4))),
    ],
)
def test_similar_modules_have_one_template(
    layer: nn.Module, other: nn.Module, shapes: Any, lower: Any
) -> None:
    first, second = lower(layer, shapes[0]), lower(other, shapes[1])
    assert first.template == second.template is not None
    assert first.template.text == second.template.text


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (nn.Conv1d(6, 8, 3), (6, 9), "a convolution without a batch axis"),
        (nn.ConvTranspose2d(6, 8, 3), (6, 9, 8), "a convolution without a batch axis"),
        (nn.ConvTranspose1d(6, 8, 3), (6, 9), "a convolution without a batch axis"),
        (nn.ZeroPad2d(1), (6, 9, 8), "padding without a batch axis"),
        (nn.ZeroPad2d((1, 0, -1, 0)), IMAGE, "padding that crops"),
        (nn.ZeroPad1d((-1, 2)), ROW, "padding that crops"),
    ],
)
def test_what_is_not_covered_is_refused(
    layer: nn.Module, shape: tuple[int, ...], reason: str, lower: Any
) -> None:
    operator = lower(layer, shape)
    assert operator.template is None and operator.reason == reason


@pytest.mark.parametrize(
    "name", ["row, reflect", "transposed row, settings", "reflect"]
)
def test_gradients_reach_every_weight(name: str, lower: Any, trains: Any) -> None:
    trains(lower(*LAYERS[name]))


class Sized(nn.Module):
    """A transposed convolution that is told its output size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(6, 4, 3, stride=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, [29, 26])


def test_a_call_may_ask_for_an_output_size() -> None:
    model, x = Sized().eval(), torch.randn(IMAGE)
    (operator,) = find_operators(trace(model, (x,)))
    emitted = emit_operator(operator.template, operator.bindings, operator.weights)
    with torch.no_grad():
        torch.testing.assert_close(emitted(x), model(x), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv1d(6, 4, 3, padding=1), nn.BatchNorm1d(4), nn.PReLU(4)), ROW),
        ((nn.ConvTranspose2d(6, 4, 3, 2), nn.BatchNorm2d(4), nn.ELU()), IMAGE),
        ((nn.ConvTranspose1d(6, 4, 3, 2), nn.BatchNorm1d(4), nn.ReLU6()), ROW),
        ((nn.Linear(11, 4), nn.BatchNorm1d(6), nn.PReLU(6)), ROW),
        ((nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Hardswish()), (3, 6)),
    ],
    ids=lambda value: type(value[0]).__name__,
)
def test_layers_behind_each_other_are_one_operator(
    layers: tuple[nn.Module, ...], shape: tuple[int, ...], randomise: Any
) -> None:
    model, x = randomise(nn.Sequential(*layers)), torch.randn(shape)
    (operator,) = find_operators(trace(model, (x,)))
    assert operator.modules == ("0", "1", "2")
    emitted = emit_operator(operator.template, operator.bindings, operator.weights)
    with torch.no_grad():
        torch.testing.assert_close(emitted(x), model(x), rtol=0.0, atol=1e-5)
