"""Fixtures of the passes: a small residual network and images for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

X = torch.randn(2, 3, 9, 10, generator=torch.Generator().manual_seed(3))


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with batch-norm statistics that are not the initial ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                if module.affine:
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(generator=generator)
    return model.eval()


class Residual(nn.Module):
    """conv-bn-relu, conv-bn, a shortcut, pooling and a head; relu is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.shortcut = nn.Sequential(nn.Conv2d(8, 8, 1, stride=2), nn.BatchNorm2d(8))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(x))
        y = self.relu(y + self.shortcut(x))
        return self.head(self.flatten(self.pool(y)))


@pytest.fixture
def residual() -> nn.Module:
    torch.manual_seed(0)
    return randomised(Residual())


@pytest.fixture
def images() -> Tensor:
    return X.clone()


@pytest.fixture
def randomise():
    return randomised
