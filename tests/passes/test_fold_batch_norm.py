"""Batch norms fold into the layer before them, where that is exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gos_fx.passes.fold_batch_norm import MEMBERS, fold_batch_norm
from gos_fx.passes.trace import trace

Randomise = Callable[[nn.Module], nn.Module]


def norms(module: nn.Module) -> list[str]:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return [name for name, m in module.named_modules() if isinstance(m, kinds)]


def check(model: nn.Module, x: Tensor, left: list[str]) -> dict[str, list[str]]:
    traced = trace(model, (x,))
    result = fold_batch_norm(traced)
    assert norms(traced) == left
    with torch.no_grad():
        expected = model(x)
        scale = float(expected.abs().max())
        torch.testing.assert_close(traced(x), expected, rtol=0, atol=1e-5 * scale)
    again = fold_batch_norm(traced)
    assert not again.modified  # a fixed point
    members: dict[str, list[str]] = traced.meta[MEMBERS]
    assert result.modified == bool(members)
    return members


def test_it_folds_and_keeps_the_names(residual: nn.Module, images: Tensor) -> None:
    members = check(residual, images, [])
    assert members == {"conv1": ["bn1"], "conv2": ["bn2"], "shortcut.0": ["shortcut.1"]}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 4])
def test_kinds_of_convolution(affine: bool, groups: int, randomise: Randomise) -> None:
    conv = nn.Conv2d(4, 8, 3, groups=groups, bias=False)
    model = randomise(nn.Sequential(conv, nn.BatchNorm2d(8, affine=affine)))
    assert check(model, torch.randn(2, 4, 6, 6), []) == {"0": ["1"]}


def test_linear(randomise: Randomise) -> None:
    model = randomise(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)))
    assert check(model, torch.randn(3, 4), []) == {"0": ["1"]}


class Shared(nn.Module):
    """``mode`` says what is in the way of folding."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        statistics = mode != "no statistics"
        self.bn = nn.BatchNorm2d(4, track_running_stats=statistics)
        self.bn2 = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.mode == "two users":
            return self.bn(y) + y
        if self.mode == "shared convolution":
            return self.bn(y) + self.bn2(self.conv(x + 1))
        if self.mode == "shared norm":
            return self.bn(y) + self.bn(x)
        if self.mode == "something between":
            return self.bn(torch.relu(y))
        return self.bn(y)


@pytest.mark.parametrize(
    "mode", ["two users", "shared convolution", "shared norm", "something between"]
)
def test_it_must_not_fire(mode: str, randomise: Randomise) -> None:
    model = randomise(Shared(mode))
    left = ["bn", "bn2"] if mode == "shared convolution" else ["bn"]
    assert check(model, torch.randn(2, 4, 5, 5), left) == {}


def test_without_running_statistics() -> None:
    model = Shared("no statistics").eval()
    assert check(model, torch.randn(2, 4, 5, 5), ["bn"]) == {}
