"""NaN goes through compiled code as it goes through torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.kernels.build import build
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.targets.target import get

SHAPE = (2, 24, 6, 7)
WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda x, y: F.relu(x),
    "leaky relu": lambda x, y: F.leaky_relu(x, 0.1),
    "relu6": lambda x, y: F.relu6(x),
    "hardtanh": lambda x, y: F.hardtanh(x),
    "hardswish": lambda x, y: F.hardswish(x),
    "from below": lambda x, y: x.clamp(min=0.5),
    "from above": lambda x, y: x.clamp(max=0.0),
    "absolute": lambda x, y: x.abs(),
    "exp": lambda x, y: x.exp(),
    "sigmoid": lambda x, y: x.sigmoid(),
    "tanh": lambda x, y: x.tanh(),
    "erf": lambda x, y: torch.erf(x),
    "silu": lambda x, y: F.silu(x),
    "gelu": lambda x, y: F.gelu(x),
    "gelu by tanh": lambda x, y: F.gelu(x, approximate="tanh"),
    "maximum": lambda x, y: torch.maximum(x, y),
    "minimum": lambda x, y: torch.minimum(x, y),
    "several": lambda x, y: torch.maximum(torch.minimum(x, y), torch.maximum(y, x)),
    "largest": lambda x, y: x.flatten(2).amax(2),
    "smallest": lambda x, y: x.flatten(2).amin(2),
    "largest of channels": lambda x, y: x.amax(1),
    "smallest of channels": lambda x, y: x.amin(1),
    "softmax": lambda x, y: x.softmax(-1),
    "softmax of channels": lambda x, y: x.softmax(1),
    "layer norm": lambda x, y: F.layer_norm(x, (7,)),
    "average": lambda x, y: F.avg_pool2d(x, 2),
    "convolution": lambda x, y: F.relu(F.conv2d(x, torch.ones(8, 24, 3, 3), padding=1)),
}
# x86 has no instruction for them that keeps NaN.
ON_ARM = WAYS | {
    "max pool": lambda x, y: F.max_pool2d(x, 3, 2, 1),
    "windows": lambda x, y: F.max_pool2d(x, 2),
}


class Ways(nn.Module):
    def __init__(self, ways: dict[str, Any]) -> None:
        super().__init__()
        self.ways = ways
        self.eval()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return tuple(way(x, y) for way in self.ways.values())


def inputs() -> tuple[Tensor, Tensor]:
    """NaN at the begin, in the middle and at the end of rows."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(SHAPE, generator=generator) * 3 for _ in "xy")
    for place in ((0, 0, 0, 0), (0, 7, 2, 3), (1, 23, 5, 6), (1, 2, 3, 0)):
        x[place] = float("nan")
    x[0, 12, 1, 2] = y[0, 9, 0, 0] = y[1, 23, 5, 6] = float("nan")
    return x, y


def compare(ways: dict[str, Any], found: Any) -> None:
    for name, a, b in zip(ways, Ways(ways)(*inputs()), found, strict=True):
        assert bool(a.isnan().any()) and not bool(a.isnan().all()), name
        torch.testing.assert_close(
            torch.as_tensor(b),
            a,
            rtol=1e-5,
            atol=1e-5,
            equal_nan=True,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_on_this_machine(tmp_path: Path) -> None:
    result = build(Ways(WAYS), inputs(), get("host"), tmp_path)
    compare(WAYS, HostModule(result.library, 1)(*inputs()))


@pytest.mark.qemu
@pytest.mark.parametrize("part", range(2))  # the driver takes so many tensors
def test_as_arm_code(qemu: str, make_package: Any, tmp_path: Path, part: int) -> None:
    ways = dict(list(ON_ARM.items())[part::2])
    package = make_package(Ways(ways), inputs(), "arm_a53", tmp_path)
    compare(ways, emulate(package, [x.numpy() for x in inputs()], threads=1))
