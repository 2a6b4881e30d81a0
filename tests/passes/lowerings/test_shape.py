"""What moves values, or nothing at all; upsampling and embedding: as torch does it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gos_fx.passes.emit import emit_operator

IMAGE, TOKENS, ROW, SIGNAL = (2, 6, 9, 8), (2, 5, 6), (3, 6), (2, 6, 11)
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "flatten of rows": (nn.Flatten(2), IMAGE),
    "flatten of the middle": (nn.Flatten(1, 2), IMAGE),
    "flatten with the batch": (nn.Flatten(0, 1), TOKENS),
    "flatten of one axis": (nn.Flatten(1), ROW),
    "flatten of rank 5": (nn.Flatten(), (2, 3, 1, 2, 2)),
    "unflatten": (nn.Unflatten(1, (2, 3)), ROW),
    "unflatten of the rest": (nn.Unflatten(-1, (2, -1, 2)), IMAGE),
    "pixel shuffle": (nn.PixelShuffle(2), (2, 12, 3, 4)),
    "identity": (nn.Identity(), TOKENS),
    "dropout of rank 5": (nn.Dropout(), (2, 3, 1, 2, 2)),
    "dropout": (nn.Dropout(0.4), IMAGE),
    "dropout of channels": (nn.Dropout2d(), IMAGE),
    "nearest": (nn.Upsample(scale_factor=2), IMAGE),
    "nearest of a row": (nn.Upsample(scale_factor=3), SIGNAL),
    "nearest to a size": (nn.Upsample((13, 5)), IMAGE),
    "nearest by the scale": (nn.Upsample(scale_factor=1.7), IMAGE),
    "nearest by the size": (
        nn.Upsample(scale_factor=1.7, recompute_scale_factor=True),
        IMAGE,
    ),
    "nearest by two scales": (nn.Upsample(scale_factor=(2, 1.3)), IMAGE),
    "nearest exactly": (nn.Upsample(scale_factor=1.7, mode="nearest-exact"), IMAGE),
    "nearest of images": (nn.UpsamplingNearest2d(scale_factor=2), IMAGE),
    "linear": (nn.Upsample(25, mode="linear"), SIGNAL),
    "linear by the scale": (nn.Upsample(scale_factor=0.7, mode="linear"), SIGNAL),
    "linear with corners": (nn.Upsample(25, None, "linear", True), SIGNAL),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "bilinear by the scale": (nn.Upsample(scale_factor=1.7, mode="bilinear"), IMAGE),
    "bilinear with corners": (nn.Upsample((4, 21), None, "bilinear", True), IMAGE),
    "bilinear, scaled to corners": (nn.UpsamplingBilinear2d(scale_factor=1.7), IMAGE),
    "bicubic": (nn.Upsample(scale_factor=1.7, mode="bicubic"), IMAGE),
    "bicubic with corners": (nn.Upsample((4, 21), None, "bicubic", True), IMAGE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_emitted_equals_original(name: str, agrees: Any) -> None:
    # Matrices of a resampling have the float32 coordinates that torch gives maps.
    agrees(*LAYERS[name], lost=2e-6)


@pytest.mark.parametrize("shape", [(4,), (2, 7), (2, 3, 4)])
@pytest.mark.parametrize("padding", [None, 0])
def test_an_embedding_takes_whole_numbers(
    shape: tuple[int, ...], padding: int | None, agrees: Any
) -> None:
    operator = agrees(nn.Embedding(11, 6, padding_idx=padding), shape, indices=11)
    (x,) = operator.concrete.maps
    assert x.type.dtype == "int64" and x.type.shape == shape
    assert operator.concrete.result.dtype == "float32"


def test_gradients_reach_the_rows_that_are_read(lower: Any) -> None:
    operator = lower(nn.Embedding(5, 2), (1, 3), 5)
    module = emit_operator(operator.template, operator.bindings, operator.weights)
    module(torch.tensor([[1, 4, 4]])).sum().backward()
    assert module.table.grad[:, 0].tolist() == [0.0, 1.0, 0.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("layer", "other", "shapes"),
    [
        (nn.Flatten(1, 2), nn.Flatten(-3, -2), (IMAGE, (1, 2, 3, 4))),
        (nn.Unflatten(1, (2, 3)), nn.Unflatten(1, (-1, 7)), (ROW, (1, 14))),
        (nn.PixelShuffle(2), nn.PixelShuffle(3), ((2, 12, 3, 4), (1, 9, 1, 1))),
        (nn.Upsample(scale_factor=2), nn.Upsample((5, 31)), (IMAGE, (1, 2, 4, 3))),
        (
            nn.Upsample(scale_factor=2, mode="bicubic"),
            nn.Upsample(scale_factor=1.3, mode="bilinear"),
            (IMAGE, (1, 2, 4, 3)),
        ),
        (nn.Dropout(0.2), nn.Dropout(0.4), (IMAGE, (1, 2, 4, 3))),
    ],
)
def test_similar_modules_have_one_template(
    layer: nn.Module, other: nn.Module, shapes: Any, lower: Any
) -> None:
    first, second = lower(layer, shapes[0]), lower(other, shapes[1])
    assert first.template == second.template is not None
    assert first.template.text == second.template.text


def test_what_does_nothing_has_no_instruction(lower: Any) -> None:
    operator = lower(nn.Dropout(), IMAGE)
    assert operator.template.nodes == () and operator.template.output == "x"


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (nn.Unflatten(0, (1, 2)), IMAGE, "Unflatten of the batch or of a named axis"),
        (nn.Unflatten(1, (2, 3)), (2, 6, 1, 1, 1), "a feature map of rank 5"),
        (nn.PixelShuffle(2), (4, 3, 4), "a feature map of rank 3"),
        (
            nn.Upsample(scale_factor=2),
            (1, 2, 3, 4, 5),
            "a feature map of rank 5",
        ),
    ],
)
def test_what_is_not_covered_is_refused(
    layer: nn.Module, shape: tuple[int, ...], reason: str, lower: Any
) -> None:
    operator = lower(layer, shape)
    assert operator.template is None and operator.reason == reason


def test_an_embedding_that_changes_its_table_is_refused(lower: Any) -> None:
    operator = lower(nn.Embedding(5, 2, max_norm=1.0), (1, 3), 5)
    assert operator.reason == "an embedding that renormalises its rows"
