"""Scores: per sample or per batch, weighted; metrics and loaders that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.errors import BadMetric, EmptyLoader, OneShotLoader
from gos_fx.evolve.task import (
    Task,
    fidelity,
    require_reiterable,
    squared_error,
    top1,
)

SIZES = (4, 4, 2)
DATA = [
    (torch.randn(n, 3, generator=torch.Generator().manual_seed(n)), torch.arange(n) % 2)
    for n in SIZES
]
MODEL = nn.Identity()


def score(metric: Any, **options: Any) -> Any:
    return Task(DATA, DATA, F.cross_entropy, metric, **options).score(MODEL)


def test_per_sample() -> None:
    found = score(top1)
    assert len(found.values) == sum(SIZES) and set(found.weights) == {1.0}
    right = sum(int((x.argmax(-1) == y).sum()) for x, y in DATA)
    assert found.value == pytest.approx(right / sum(SIZES))


@pytest.mark.parametrize("wrap", [float, torch.tensor, lambda v: torch.tensor([v])])
def test_per_batch_is_weighted_by_its_samples(wrap: Any) -> None:
    def metric(outputs: Tensor, targets: Tensor) -> Any:
        return wrap(float(len(outputs)))

    found = score(metric)
    assert found.value == pytest.approx(sum(n * n for n in SIZES) / sum(SIZES))


def test_one_sample_that_is_not_finite() -> None:
    def metric(outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.where(targets == 0, float("nan"), 1.0)

    with pytest.raises(BadMetric, match="the metric gives nan"):
        score(metric)


def test_the_whole_at_once() -> None:
    def spread(outputs: list[Tensor], targets: list[Tensor]) -> float:
        (y,) = outputs
        assert y.shape == (10, 3)
        return float(y.max() - y.min())

    everything = torch.cat([x for x, _ in DATA])
    found = score(spread, whole=True)
    assert found.value == pytest.approx(float(everything.max() - everything.min()))


def test_gain_goes_by_the_mode() -> None:
    up = Task(DATA, DATA, F.cross_entropy, top1)
    down = Task(DATA, DATA, F.cross_entropy, top1, mode="min")
    assert up.gain(0.9, 0.8) == pytest.approx(0.1)
    assert down.gain(0.9, 0.8) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (float("nan"), "the metric gives nan"),
        (float("inf"), "the metric gives inf"),
        ("ninety", "'ninety', which is not a number"),
        (None, "None, which is not a number"),
        (torch.zeros(4, 2), "a tensor of shape (4, 2)"),
        (torch.tensor([]), "a tensor of shape (0,)"),
        (torch.tensor([1.0, 0.0, 1.0]), "a tensor of shape (3,)"),
        ({"accuracy": 1.0}, "which is not a number"),
    ],
)
def test_nonsense_is_refused(returned: Any, reason: str) -> None:
    with pytest.raises(BadMetric) as caught:
        score(lambda outputs, targets: returned)
    assert reason in caught.value.what and caught.value.where == "metric"
    assert caught.value.do


def test_loaders() -> None:
    require_reiterable(DATA, "train_data")
    with pytest.raises(OneShotLoader, match="eval_data can be gone through only once"):
        require_reiterable(iter(DATA), "eval_data")
    with pytest.raises(OneShotLoader):
        require_reiterable((batch for batch in DATA), "eval_data")
    with pytest.raises(EmptyLoader, match="train_data gives no batch") as caught:
        require_reiterable([], "train_data")
    assert caught.value.do
    empty = Task(None, [], F.cross_entropy, top1)
    with pytest.raises(EmptyLoader, match="eval_data gives no batch"):
        empty.score(MODEL)


def test_batches_of_several_inputs() -> None:
    pairs = [((torch.ones(2), torch.zeros(2)), 1), ([torch.ones(2)], 2)]
    task = Task(None, pairs, F.cross_entropy, top1)
    found = list(task.batches(pairs, "eval_data"))
    assert [len(inputs) for inputs, _ in found] == [2, 1]


def test_fidelity_is_the_coefficient_of_determination() -> None:
    y0 = torch.randn(50, 3)
    assert fidelity(y0, y0) == 1.0
    assert fidelity(y0.mean(0).expand(50, 3), y0) == pytest.approx(0.0, abs=1e-6)
    noise = 0.1 * torch.randn(50, 3)
    variation = float((y0 - y0.mean(0)).square().sum())
    expected = 1 - float(noise.square().sum()) / variation
    assert fidelity([y0 + noise], (y0,)) == pytest.approx(expected, abs=1e-5)


def test_squared_error_of_nested_outputs() -> None:
    a, b = torch.randn(4, 2), torch.randn(4)
    found = squared_error({"a": a, "b": [b]}, {"a": a + 1, "b": [b - 2]})
    assert float(found) == pytest.approx(1 + 4, rel=1e-5)
