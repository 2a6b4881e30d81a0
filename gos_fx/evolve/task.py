"""What the network is for: batches, loss and metric, and how a score is compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.errors import BadMetric, EmptyLoader, OneShotLoader
from gos_fx.passes.nested import tensors

Batch = tuple[tuple[Any, ...], Any]
Metric = Callable[[Any, Any], Any]
Loss = Callable[[Any, Any], Tensor]


def top1(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 for each sample whose largest logit is its class, else 0: [N] from [N, C]."""
    return (outputs.argmax(-1) == targets).float()


def fidelity(outputs: Any, targets: Any) -> float:
    """1 - ||y - y0||^2 / ||y0 - mean(y0)||^2: how much of the variation over the inputs
    of the original's outputs is reproduced (coefficient of determination)."""
    error, variation = 0.0, 0.0
    for y, y0 in zip(tensors(outputs), tensors(targets), strict=True):
        error += float((y - y0).double().square().sum())
        variation += float((y0 - y0.mean(0)).double().square().sum())
    return 1.0 - error / max(variation, 1e-30)


def squared_error(outputs: Any, targets: Any) -> Tensor:
    """Mean squared distance to the targets, for outputs of any nesting."""
    pairs = list(zip(tensors(outputs), tensors(targets), strict=True))
    return torch.stack([F.mse_loss(y, y0) for y, y0 in pairs]).sum()


@dataclass(frozen=True)
class Task:
    """``train`` is learned from, ``valid`` decides; both are gone through many times.

    ``metric(outputs, targets)`` gives one value for each sample, or one for the batch;
    larger is better unless ``mode`` is "min". ``whole`` metrics see all batches at
    once.
    """

    train: Iterable[Any] | None
    valid: Iterable[Any]
    loss: Loss
    metric: Metric
    mode: str = "max"
    name: str = "metric"
    whole: bool = False
    parameters: tuple[str, ...] = ()  # of forward, for inputs that are dicts

    def batches(self, data: Iterable[Any], where: str) -> Iterator[Batch]:
        """Batches as (tuple of inputs, targets).

        Raises:
            EmptyLoader: there is none.
        """
        empty = True
        for batch in data:
            empty = False
            inputs, targets = batch
            if isinstance(inputs, dict):
                inputs = tuple(inputs[p] for p in self.parameters if p in inputs)
            if not isinstance(inputs, list | tuple):
                inputs = (inputs,)
            yield tuple(inputs), targets
        if empty:
            raise _empty(where)

    def score(self, model: nn.Module | Callable[..., Any]) -> Score:
        """The metric of a model over ``valid``.

        Raises:
            EmptyLoader, BadMetric.
        """
        return self.score_batches(model, self.batches(self.valid, "eval_data"))

    def score_batches(
        self, model: Callable[..., Any], batches: Iterable[Batch]
    ) -> Score:
        with torch.no_grad():
            pairs = ((model(*inputs), targets) for inputs, targets in batches)
            if self.whole:
                outputs, targets = zip(*pairs, strict=True)
                value = self._judge(_cat(outputs), _cat(targets))
                return Score((_number(value),), (1.0,))
            values: list[float] = []
            weights: list[float] = []
            for outputs, targets in pairs:
                value = self._judge(outputs, targets)
                samples = tensors(outputs)[0].shape[0]
                if isinstance(value, Tensor) and value.shape == (samples,):
                    values += [_number(v) for v in value.tolist()]
                    weights += [1.0] * samples
                else:
                    values.append(_number(value))
                    weights.append(float(samples))
        return Score(tuple(values), tuple(weights))

    def _judge(self, outputs: Any, targets: Any) -> Any:
        try:
            return self.metric(outputs, targets)
        except Exception as error:  # the metric is the caller's code
            raise BadMetric(
                f"the metric fails with {type(error).__name__}: {error}",
                where="metric",
                do="it is called as metric(outputs, targets) for each batch",
            ) from error

    def gain(self, value: float, reference: float) -> float:
        """How much better ``value`` is, in units of the metric; negative: a loss."""
        return value - reference if self.mode == "max" else reference - value


@dataclass(frozen=True)
class Score:
    """A metric's values with their weights; per sample where the metric gives that."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def value(self) -> float:
        total = sum(v * w for v, w in zip(self.values, self.weights, strict=True))
        return total / sum(self.weights)


def require_reiterable(data: Iterable[Any], where: str) -> None:
    """Refuse what can be gone through only once, or is empty.

    Raises:
        OneShotLoader, EmptyLoader.
    """
    if iter(data) is data:
        raise OneShotLoader(
            f"{where} can be gone through only once",
            where=where,
            do="pass a DataLoader or a list of (inputs, targets) batches",
        )
    for _ in data:
        return
    raise _empty(where)


def _empty(where: str) -> EmptyLoader:
    return EmptyLoader(
        f"{where} gives no batch",
        where=where,
        do="pass at least one batch of (inputs, targets)",
    )


def _number(value: Any) -> float:
    do = "return one finite number for the batch, or one for each sample"
    if isinstance(value, Tensor) and value.numel() != 1:
        shape = tuple(value.shape)
        raise BadMetric(f"the metric gives a tensor of shape {shape}", "metric", do)
    try:
        number = float(value)
    except (TypeError, ValueError):
        what = f"the metric gives {value!r}, which is not a number"
        raise BadMetric(what, "metric", do) from None
    if not math.isfinite(number):
        raise BadMetric(f"the metric gives {number}", "metric", do)
    return number


def _cat(values: tuple[Any, ...]) -> list[Tensor]:
    return [torch.cat(parts) for parts in zip(*map(tensors, values), strict=True)]
