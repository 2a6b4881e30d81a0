"""Normalisation, and Linear on maps of any rank: as torch computes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

IMAGE, TOKENS, ROW, SIGNAL = (2, 6, 9, 8), (2, 5, 6), (3, 6), (2, 6, 11)
LAST, VIDEO = (2, 3, 4, 6), (2, 3, 2, 2, 6)
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "batch norm of features": (nn.BatchNorm1d(6), ROW),
    "batch norm of a signal": (nn.BatchNorm1d(6), SIGNAL),
    "batch norm without gain": (nn.BatchNorm1d(6, affine=False, eps=0.1), SIGNAL),
    "layer norm": (nn.LayerNorm(6), TOKENS),
    "layer norm of features": (nn.LayerNorm(6, eps=0.3), ROW),
    "layer norm without gain": (nn.LayerNorm(6, elementwise_affine=False), TOKENS),
    "layer norm without shift": (nn.LayerNorm(6, bias=False), TOKENS),
    "layer norm of two axes": (nn.LayerNorm((5, 6)), TOKENS),
    "layer norm of images": (nn.LayerNorm((6, 9, 8)), IMAGE),
    "layer norm of rows": (nn.LayerNorm((9, 8), bias=False), IMAGE),
    "layer norm, channels last": (nn.LayerNorm(6), LAST),
    "layer norm of rank 5": (nn.LayerNorm(6), VIDEO),
    "group norm": (nn.GroupNorm(3, 6), IMAGE),
    "group norm of one": (nn.GroupNorm(1, 6, eps=0.2), IMAGE),
    "group norm of each": (nn.GroupNorm(6, 6), IMAGE),
    "group norm without gain": (nn.GroupNorm(2, 6, affine=False), SIGNAL),
    "group norm of a signal": (nn.GroupNorm(2, 6), SIGNAL),
    "group norm of features": (nn.GroupNorm(2, 6), ROW),
    "instance norm": (nn.InstanceNorm2d(6), IMAGE),
    "instance norm with gain": (nn.InstanceNorm2d(6, affine=True), IMAGE),
    "instance norm of a signal": (nn.InstanceNorm1d(6, affine=True), SIGNAL),
    "instance norm, running": (
        nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
        IMAGE,
    ),
    "linear of images": (nn.Linear(8, 3), IMAGE),
    "linear of rank 5": (nn.Linear(6, 3, bias=False), VIDEO),
}


@pytest.mark.parametrize("name", LAYERS)
def test_emitted_equals_original(name: str, agrees: Any) -> None:
    layer, shape = LAYERS[name]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in (*layer.parameters(), *layer.buffers()):
            if value.is_floating_point():
                value.uniform_(0.5, 2.0, generator=generator)
    agrees(layer, shape)


@pytest.mark.parametrize(
    ("layer", "other", "shapes"),
    [
        (nn.BatchNorm1d(6), nn.BatchNorm1d(3, eps=0.1), (SIGNAL, (1, 3, 4))),
        (nn.LayerNorm(6), nn.LayerNorm(3), (TOKENS, (1, 9, 3))),
        (nn.LayerNorm((9, 8)), nn.LayerNorm((2, 3)), (IMAGE, (1, 4, 2, 3))),
        (nn.GroupNorm(3, 6), nn.GroupNorm(1, 8), (IMAGE, (1, 8, 2, 3))),
        (nn.Linear(8, 3), nn.Linear(5, 7), (IMAGE, (1, 2, 3, 5))),
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
        (nn.Linear(6, 2), (6,), "a feature map of rank 1"),
        (nn.LayerNorm(6), (6,), "a feature map of rank 1"),
        (nn.LayerNorm((2, 2, 6)), VIDEO, "a feature map of rank 5"),
        (nn.GroupNorm(3, 6), (2, 6, 3, 2, 2), "a feature map of rank 5"),
        (nn.InstanceNorm2d(6), (6, 9, 8), "normalisation without a batch axis"),
        (
            nn.BatchNorm1d(6, track_running_stats=False),
            ROW,
            "batch norm without running statistics",
        ),
    ],
)
def test_what_is_not_covered_is_refused(
    layer: nn.Module, shape: tuple[int, ...], reason: str, lower: Any
) -> None:
    operator = lower(layer, shape)
    assert operator.template is None and operator.reason == reason


@pytest.mark.parametrize("name", ["layer norm of rows", "group norm of a signal"])
def test_gradients_reach_every_weight(name: str, lower: Any, trains: Any) -> None:
    layer, shape = LAYERS[name]
    with torch.no_grad():  # an even function of what is standardised has none
        layer.weight.copy_(
            torch.linspace(0.5, 2.0, layer.weight.numel()).view_as(layer.weight)
        )
    trains(lower(layer, shape))
