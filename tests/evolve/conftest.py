"""A template, two sites, a tiny network with data, and an evaluator for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.evolve.evaluator import Evaluator, Gates, Limits
from gos_fx.evolve.task import Task, top1
from gos_fx.evolve.training import FineTuning, LocalFit
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.ir.verifier import Bounds
from gos_fx.passes.fold_batch_norm import fold_batch_norm
from gos_fx.passes.operators import find_operators
from gos_fx.passes.trace import trace
from gos_fx.targets.target import get

CONV = """\
def conv2d(x: map[N, C_in, H, W], *, w: weight[C_out, C_in, K_h, K_w], b: weight[C_out]) -> map[N, C_out, H_out, W_out]:
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = add(v1, b)
    v3 = relu(v2, slope=0.0)
    return v3"""  # noqa: E501
LINEAR = """\
def linear(x: map[N, C_in], *, w: weight[C_out, C_in], b: weight[C_out]) -> map[N, C_out]:
    v0 = transpose(w, axes=(1, 0))
    v1 = matmul(x, v0)
    v2 = add(v1, b)
    return v2"""  # noqa: E501


def site(channels: int, outputs: int, stride: int) -> dict[str, int]:
    """A 3 x 3 convolution with padding 1 of 7 x 7 images."""
    sizes = {"N": 2, "C_in": channels, "C_out": outputs, "H": 7, "W": 7}
    after = (7 - 1) // stride + 1
    sizes |= {"H_out": after, "W_out": after, "S_h": stride, "S_w": stride}
    sizes |= dict.fromkeys(("K_h", "K_w"), 3)
    return sizes | dict.fromkeys(("P_h", "P_w", "D_h", "D_w"), 1)


@pytest.fixture(scope="session")
def conv() -> Graph:
    return parse(CONV)


@pytest.fixture(scope="session")
def linear() -> Graph:
    return parse(LINEAR)


@pytest.fixture(scope="session")
def sites() -> tuple[dict[str, int], ...]:
    return site(8, 8, 1), site(8, 16, 2)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    """Two similar convolutions behind a first one, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1, stride=2)
        self.relu3 = nn.ReLU()
        self.bn = nn.BatchNorm2d(16)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu3(self.conv3(self.relu2(self.conv2(x))))
        return self.head(self.flatten(self.pool(self.bn(x) + 0)))


def batches(model: nn.Module, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Inputs with the model's own classes, so that it is always right."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    with torch.no_grad():
        for _ in range(count):
            x = torch.randn(16, 3, 8, 8, generator=generator)
            found.append((x, model(x).argmax(-1)))
    return found


@pytest.fixture(scope="session")
def net() -> nn.Module:
    torch.manual_seed(0)
    model = Net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        model.head.weight.mul_(4)
    return model.eval()


@pytest.fixture(scope="session")
def task(net: nn.Module) -> Task:
    train, valid = batches(net, 3, 1), batches(net, 4, 2)
    return Task(train, valid, F.cross_entropy, top1, name="top-1 accuracy")


@pytest.fixture
def make_evaluator(net: nn.Module, task: Task) -> Callable[..., Evaluator]:
    def make(
        names: tuple[str, ...] = ("conv2", "conv3"),
        epsilon: float = 0.2,
        **changed: Any,
    ) -> Evaluator:
        used = changed.pop("task", task)
        network = trace(changed.pop("net", net), (torch.randn(1, 3, 8, 8),))
        fold_batch_norm(network)
        network.requires_grad_(False)
        operators = [op for op in find_operators(network) if op.name in names]
        current = used.score(network)
        settings: dict[str, Any] = {
            "threads": None,
            "current": current,
            "floor": current.value - epsilon,
            "seed": 0,
            "bounds": Bounds(),
            "tuning": FineTuning(epochs=1, batch=16),
            "fit": LocalFit(steps=4, batch=16),
            "polishing": LocalFit(steps=4, batch=16),
            "gates": Gates(local_error=0.9, recoverable=1e3, prudence=0.0),
            "limits": Limits(fit_samples=32),
        }
        settings |= changed
        return Evaluator(network, operators, used, get("arm_a53"), **settings)

    return make
