"""Convolutions of rows, transposed ones and uneven averages, by our own kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gos_fx.kernels.build import build
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.targets.target import get

IMAGE, ROW = (2, 8, 9, 7), (2, 8, 21)
LAYERS: tuple[tuple[nn.Module, tuple[int, ...]], ...] = (
    (nn.Conv1d(8, 12, 3, padding=1), ROW),
    (nn.Conv1d(8, 12, 9, stride=2, padding=4), ROW),
    (nn.Conv1d(8, 8, 3, dilation=2, groups=8), ROW),
    (nn.ConvTranspose1d(8, 12, 5, 3, 2), ROW),
    (nn.ConvTranspose2d(8, 12, 4, 2, 1), IMAGE),
    (nn.ConvTranspose2d(8, 12, 2, 2), IMAGE),
    (nn.ConvTranspose2d(8, 12, 3, 2, 1, 1), IMAGE),
    (nn.ConvTranspose2d(8, 12, (5, 2), (3, 1), (0, 1)), IMAGE),
    (nn.ConvTranspose2d(8, 8, 3, 2, groups=4), IMAGE),
    (nn.ConvTranspose2d(8, 12, 3), IMAGE),
    (nn.AdaptiveAvgPool2d(5), IMAGE),
)


class Layers(nn.Module):
    """Each layer with an activation behind it, on an input of its own."""

    def __init__(self, *, opaque: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList()
        for (layer, _), x in zip(LAYERS, inputs(), strict=True):
            one = nn.Sequential(layer, nn.ReLU()).eval()
            self.layers.append(make_opaque(one, (x,)) if opaque else one)
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


def inputs() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(shape, generator=generator) for _, shape in LAYERS)


def compare(found: Any) -> None:
    with torch.no_grad():
        expected = Layers()(*inputs())
    for (layer, _), a, b in zip(LAYERS, expected, found, strict=True):
        torch.testing.assert_close(
            torch.as_tensor(b), a, rtol=1e-5, atol=1e-5, msg=str(layer)
        )


def test_on_this_machine(tmp_path: Path) -> None:
    opaque = Layers(opaque=True)
    result = build(opaque, inputs(), get("host"), tmp_path)
    compare(HostModule(result.library, 1)(*inputs()))
    assert result.others == () and result.unscheduled == ()


def test_rows_do_not_move_between_two_layers(tmp_path: Path) -> None:
    """The activation becomes part of the first kernel: nothing stands between."""
    layers = (nn.Conv1d(8, 8, 3, padding=1) for _ in range(2))
    pairs = (layer for one in layers for layer in (one, nn.ReLU()))
    model, x = nn.Sequential(*pairs).eval(), torch.randn(ROW)
    result = build(make_opaque(model, (x,)), (x,), get("host"), tmp_path)
    names = [call["function"].rstrip("0123456789") for call in result.kernels]
    correlation = "gos_cross_correlation_sum_add_relu"
    assert names == ["gos_move", correlation, correlation, "gos_move"]


@pytest.mark.qemu
def test_as_arm_code(qemu: str, make_package: Any, tmp_path: Path) -> None:
    opaque = Layers(opaque=True)
    package = make_package(opaque, inputs(), "arm_a53", tmp_path)
    compare(emulate(package, [x.numpy() for x in inputs()], threads=1))
