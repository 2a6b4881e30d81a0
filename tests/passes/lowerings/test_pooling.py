"""Pooling of rows and images, to a kernel or to a size: as torch computes it."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

IMAGE, WIDE, ROW = (2, 6, 9, 8), (2, 4, 12, 6), (2, 6, 11)
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "max of a row": (nn.MaxPool1d(2), ROW),
    "max of a row, settings": (nn.MaxPool1d(3, 2, 1, ceil_mode=True), ROW),
    "average of a row": (nn.AvgPool1d(3), ROW),
    "average of a row, padded": (nn.AvgPool1d(4, 3, 2), ROW),
    "average of a row, its part": (
        nn.AvgPool1d(4, 3, 2, count_include_pad=False),
        ROW,
    ),
    "average of a row, ceil": (nn.AvgPool1d(4, 3, 2, ceil_mode=True), ROW),
    "average, ceil, padded": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "average, ceil, padded unevenly": (
        nn.AvgPool2d((4, 3), (3, 2), (2, 0), ceil_mode=True),
        IMAGE,
    ),
    "divisor": (nn.AvgPool2d(2, divisor_override=3), IMAGE),
    "divisor, padded": (
        nn.AvgPool2d((3, 2), 2, 1, divisor_override=5, count_include_pad=False),
        IMAGE,
    ),
    "divisor, ceil": (
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=1),
        IMAGE,
    ),
    "to one in a row": (nn.AdaptiveAvgPool1d(1), ROW),
    "to uneven in a row": (nn.AdaptiveAvgPool1d(4), ROW),
    "to more in a row": (nn.AdaptiveAvgPool1d(25), ROW),
    "to uneven": (nn.AdaptiveAvgPool2d(4), IMAGE),
    "to uneven rows": (nn.AdaptiveAvgPool2d((5, 8)), IMAGE),
    "to more": (nn.AdaptiveAvgPool2d((7, 7)), (2, 4, 3, 1)),
    "max to one": (nn.AdaptiveMaxPool2d(1), IMAGE),
    "max to even": (nn.AdaptiveMaxPool2d((4, 3)), WIDE),
    "max to one of a row": (nn.AdaptiveMaxPool1d(1), ROW),
}


@pytest.mark.parametrize("name", LAYERS)
def test_emitted_equals_original(name: str, agrees: Any) -> None:
    agrees(*LAYERS[name])


@pytest.mark.parametrize(
    ("layer", "other", "shapes"),
    [
        (nn.MaxPool1d(3, 2, 1), nn.MaxPool1d(2, ceil_mode=True), (ROW, (1, 2, 5))),
        (nn.AvgPool1d(3), nn.AvgPool1d(2, 1), (ROW, (1, 2, 5))),
        (nn.AdaptiveAvgPool2d(4), nn.AdaptiveAvgPool2d((2, 5)), (IMAGE, (3, 1, 5, 7))),
        (nn.AdaptiveMaxPool2d(1), nn.AdaptiveMaxPool2d((6, 3)), (IMAGE, WIDE)),
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
        (nn.MaxPool1d(2), (6, 9), "pooling without a batch axis"),
        (nn.AdaptiveAvgPool2d(1), (6, 9, 8), "pooling without a batch axis"),
        (nn.AdaptiveMaxPool2d(1), (6, 9, 8), "pooling without a batch axis"),
        (nn.MaxPool1d(2, dilation=2), ROW, "max pooling with dilation or indices"),
        (
            nn.AdaptiveMaxPool2d(4),
            IMAGE,
            "adaptive max pooling from (9, 8) to (4, 4)",
        ),
    ],
)
def test_what_is_not_covered_is_refused(
    layer: nn.Module, shape: tuple[int, ...], reason: str, lower: Any
) -> None:
    operator = lower(layer, shape)
    assert operator.template is None and operator.reason == reason


def test_averages_over_uneven_windows_are_constants(lower: Any) -> None:
    template = lower(nn.AdaptiveAvgPool2d(4), IMAGE).template
    assert [str(v.type) for v in template.weights] == [
        "constant[H_out, H]",
        "constant[W, W_out]",
    ]
