"""The networks, the input and what PyTorch makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORKS = (
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "inception_v3",
    "vit_b_16",
)
_SIDES = {"inception_v3": 299}
_SIDE = 224


def network(name: str) -> nn.Module:
    """The network with its weights, the same in every process."""
    from benchmarks import torchvision_models

    return torchvision_models.network(name)


def example(name: str) -> Tensor:
    """Its input [1, 3, side, side], standard normal numbers."""
    import torch

    side = _SIDES.get(name, _SIDE)
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def write(name: str, folder: Path) -> None:
    """``input.npy`` and ``expected.npy``, what PyTorch computes from it in fp32."""
    import numpy as np
    import torch

    x = example(name)
    with torch.no_grad():
        y = network(name)(x)
    np.save(folder / "input.npy", x.numpy())
    np.save(folder / "expected.npy", y.numpy())


def max_abs_error(output: Path, expected: Path) -> float:
    """Largest difference of two saved arrays of equal size.

    Raises:
        ValueError: their sizes differ, or the output is not finite.
    """
    import numpy as np

    y, wanted = np.load(output).ravel(), np.load(expected).ravel()
    if y.shape != wanted.shape:
        raise ValueError(f"the output has {y.size} numbers instead of {wanted.size}")
    difference = float(np.abs(y - wanted).max())
    if not np.isfinite(difference):
        raise ValueError("the output has numbers that are not finite")
    return difference
