"""Handwritten digits and a small residual network for them.

The data are the 1797 images that ship inside scikit-learn (UCI optical recognition of
handwritten digits, 8 x 8), enlarged to 32 x 32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Digits:
    """Batches of ([n, 1, 32, 32], [n]). The search never sees ``test``."""

    train: Batches
    valid: Batches
    test: Batches


def load_digits(seed: int = 0, batch: int = 128) -> Digits:
    """45 % of the images to train on, 35 % for the gate, 20 % to test."""
    from sklearn.datasets import load_digits as bundled

    images, labels = bundled(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16.0
    x = F.interpolate(x, size=(32, 32), mode="bilinear", align_corners=False)
    y = torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    first, second = 45 * len(x) // 100, 80 * len(x) // 100
    parts = (order[:first], order[first:second], order[second:])
    batches = [
        list(zip(x[part].split(batch), y[part].split(batch), strict=True))
        for part in parts
    ]
    return Digits(*batches)


class Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + self.shortcut(x))


class DigitNet(nn.Module):
    """A residual network with nine convolutions for 1 x 32 x 32 inputs."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.block1 = Block(width, width, 1)
        self.block2 = Block(width, 2 * width, 2)
        self.block3 = Block(2 * width, 4 * width, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.stem(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.head(self.flatten(self.pool(x)))


def train_digit_net(data: Digits, seed: int = 0, epochs: int = 14) -> DigitNet:
    """A trained network in eval mode: SGD, one-cycle rate, images moved a little."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitNet()
        optimizer = torch.optim.SGD(
            model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        x = torch.cat([inputs for inputs, _ in data.train])
        y = torch.cat([targets for _, targets in data.train])
        steps = epochs * -(-len(x) // 64)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, steps)
        for _ in range(epochs):
            for index in torch.randperm(len(x)).split(64):
                loss = F.cross_entropy(model(_moved(x[index])), y[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def augmented(batches: Batches, seed: int) -> Batches:
    """The batches with every image moved a little, as a training loader gives them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [(_moved(x), y) for x, y in batches]


def _moved(x: Tensor) -> Tensor:
    """Each image turned by up to 12 degrees, scaled by 10 %, shifted by 6 %."""
    angle, scale, right, down = torch.rand(4, len(x)) * 2 - 1
    cos, sin = torch.cos(0.2 * angle), torch.sin(0.2 * angle)
    scale, right, down = 1 + 0.1 * scale, 0.12 * right, 0.12 * down
    rows = [cos * scale, -sin * scale, right, sin * scale, cos * scale, down]
    grid = F.affine_grid(
        torch.stack(rows, 1).view(-1, 2, 3), list(x.shape), align_corners=False
    )
    return F.grid_sample(x, grid, align_corners=False)


def accuracy(model: nn.Module, batches: Batches) -> float:
    """Share of images classified right."""
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    return right / sum(len(y) for _, y in batches)
