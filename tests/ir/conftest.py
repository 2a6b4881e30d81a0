"""The template that most tests look at, and two sites for it."""

from __future__ import annotations

import pytest

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse

CONV = """\
def conv2d(x: map[N, C_in, H, W], *, w: weight[C_out, C_in, K_h, K_w], b: weight[C_out]) -> map[N, C_out, H_out, W_out]:
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = add(v1, b)
    v3 = relu(v2, slope=0.0)
    return v3"""  # noqa: E501


def bindings(
    channels: int, outputs: int, size: int, *, stride: int = 1, batch: int = 2
) -> dict[str, int]:
    """A 3 x 3 convolution with padding 1."""
    after = (size - 1) // stride + 1
    return (
        {
            "N": batch,
            "C_in": channels,
            "C_out": outputs,
            "H": size,
            "W": size,
            "H_out": after,
            "W_out": after,
            "S_h": stride,
            "S_w": stride,
        }
        | dict.fromkeys(("K_h", "K_w"), 3)
        | dict.fromkeys(("P_h", "P_w", "D_h", "D_w"), 1)
    )


@pytest.fixture(scope="session")
def conv() -> Graph:
    return parse(CONV)


@pytest.fixture(scope="session")
def sites() -> tuple[dict[str, int], dict[str, int]]:
    """Stride 1 with 64 channels, and stride 2 from 128 to 256."""
    return bindings(64, 64, 9), bindings(128, 256, 9, stride=2)
