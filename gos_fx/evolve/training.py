"""Learning the weights of a changed operator, all else frozen and in eval mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gos_fx.evolve.task import Batch, Loss


@dataclass(frozen=True)
class FineTuning:
    """SGD as in section 4.1 of the paper: rate 0.003, momentum 0.9, decay 1e-4, batch
    128. The rate falls along a half cosine over ``epochs``."""

    epochs: int = 3
    rate: float = 0.003
    momentum: float = 0.9
    decay: float = 1e-4
    batch: int = 128


@dataclass(frozen=True)
class LocalFit:
    """Adam on the squared error to the original operator's outputs.

    The loss is relative to the outputs' variance, so one rate serves all operators.
    """

    steps: int = 30
    rate: float = 3e-3
    batch: int = 32


def parameters_of(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters()]


def fit_locally(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    settings: LocalFit,
    seed: int,
    hopeless: float = float("inf"),
) -> float:
    """Fit ``module(x)`` to ``y``; returns ||y - module(x)||^2 / ||y - mean(y)||^2.

    ``x`` and ``y`` are the original operator's inputs and outputs, samples first. When
    after a third of the steps the loss is above ``hopeless``, it is returned at once.
    """
    variance = y.var().clamp_min(1e-12)
    parameters = parameters_of([module])
    if parameters and settings.steps:
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(parameters, settings.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
        order = _endless(len(x), settings.batch, generator)
        for step in range(settings.steps):
            index = next(order)
            loss = (module(x[index]) - y[index]).square().mean() / variance
            if not torch.isfinite(loss):
                return float("inf")
            if step == settings.steps // 3 and loss.item() > hopeless:
                return loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((module(x) - y).square().mean() / variance)


def fine_tune(
    network: Callable[..., Any],
    modules: Sequence[nn.Module],
    batches: Sequence[Batch],
    loss: Loss,
    settings: FineTuning,
    seed: int,
    promising: Callable[[], bool] = lambda: True,
) -> bool:
    """Train ``modules`` inside ``network`` on samples that lie in memory.

    Everything else of the network has to be frozen by the caller. Returns False when
    the loss or a weight stopped being finite, or when it was not ``promising`` after
    the first epoch.
    """
    parameters = parameters_of(modules)
    if not parameters or not batches:
        return True
    pool = _Pool(batches)
    epoch = -(-len(pool) // settings.batch)
    steps = settings.epochs * epoch
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        parameters, settings.rate, settings.momentum, weight_decay=settings.decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    order = _endless(len(pool), settings.batch, generator)
    for step in range(steps):
        if step == epoch and not promising():
            return False
        inputs, targets = pool.take(next(order))
        value = loss(network(*inputs), targets)
        if not torch.isfinite(value):
            return False
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return all(bool(torch.isfinite(p).all()) for p in parameters)


class _Pool:
    """Batches joined, so that samples can be drawn in any order."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        inputs = [batch[0] for batch in batches]
        self.inputs = tuple(_join(parts) for parts in zip(*inputs, strict=True))
        self.targets = _join([batch[1] for batch in batches])

    def __len__(self) -> int:
        tensor = next(x for x in self.inputs if isinstance(x, Tensor))
        return tensor.shape[0]

    def take(self, index: Tensor) -> Batch:
        return tuple(_pick(x, index) for x in self.inputs), _pick(self.targets, index)


def _join(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, list | tuple):
        return tuple(_join(column) for column in zip(*parts, strict=True))
    if isinstance(first, dict):
        return {key: _join([part[key] for part in parts]) for key in first}
    return first


def _pick(value: Any, index: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[index]
    if isinstance(value, tuple):
        return tuple(_pick(item, index) for item in value)
    if isinstance(value, dict):
        return {key: _pick(item, index) for key, item in value.items()}
    return value


def _endless(size: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Index batches of one random order after another."""
    while True:
        order = torch.randperm(size, generator=generator)
        yield from order.split(batch)
