"""Every lowering: the emitted module computes what the original does, or is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gos_fx.ir.verifier import verify
from gos_fx.passes.emit import emit_operator
from gos_fx.passes.operators import find_operators
from gos_fx.passes.trace import trace

IMAGE, WIDE, TOKENS, ROW = (2, 6, 9, 8), (2, 4, 12, 6), (2, 5, 6), (3, 6)
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv": (nn.Conv2d(6, 8, 3, padding=1), IMAGE),
    "conv without bias": (nn.Conv2d(6, 8, 3, bias=False), IMAGE),
    "conv with stride": (nn.Conv2d(6, 8, 3, stride=2, padding=1), IMAGE),
    "conv with uneven stride": (nn.Conv2d(6, 8, (3, 5), (2, 3), (1, 2)), IMAGE),
    "conv beyond its padding": (nn.Conv2d(6, 8, 4, stride=3, padding=2), IMAGE),
    "conv that leaves a rest": (nn.Conv2d(6, 8, 2, stride=3), IMAGE),
    "conv with dilation": (nn.Conv2d(6, 8, 3, padding=2, dilation=2), IMAGE),
    "conv with uneven dilation": (nn.Conv2d(6, 8, 3, dilation=(1, 2)), IMAGE),
    "conv same": (nn.Conv2d(6, 8, (3, 4), padding="same"), IMAGE),
    "conv same with dilation": (
        nn.Conv2d(6, 8, (2, 4), padding="same", dilation=(3, 1)),
        IMAGE,
    ),
    "conv valid": (nn.Conv2d(6, 8, 3, padding="valid"), IMAGE),
    "conv in groups": (nn.Conv2d(6, 9, 3, groups=3), IMAGE),
    "conv in groups with stride": (nn.Conv2d(6, 4, 3, 2, 1, groups=2), IMAGE),
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), IMAGE),
    "depthwise with multiplier": (nn.Conv2d(6, 12, 5, 2, 2, groups=6), IMAGE),
    "pointwise": (nn.Conv2d(6, 8, 1), IMAGE),
    "pointwise with stride": (nn.Conv2d(6, 8, 1, stride=2), IMAGE),
    "pointwise with padding": (nn.Conv2d(6, 8, 1, padding=1), IMAGE),
    "large kernel": (nn.Conv2d(6, 3, 7, stride=2, padding=3), IMAGE),
    "batch norm": (nn.BatchNorm2d(6), IMAGE),
    "batch norm without gain": (nn.BatchNorm2d(6, affine=False, eps=0.1), IMAGE),
    "linear": (nn.Linear(6, 4), ROW),
    "linear without bias": (nn.Linear(6, 4, bias=False), ROW),
    "linear on tokens": (nn.Linear(6, 4), TOKENS),
    "relu": (nn.ReLU(), IMAGE),
    "relu in place": (nn.ReLU(inplace=True), ROW),
    "leaky relu": (nn.LeakyReLU(0.2), IMAGE),
    "sigmoid": (nn.Sigmoid(), ROW),
    "tanh": (nn.Tanh(), TOKENS),
    "max pool": (nn.MaxPool2d(2), IMAGE),
    "max pool 3/2/1": (nn.MaxPool2d(3, 2, 1), IMAGE),
    "max pool ceil": (nn.MaxPool2d(2, ceil_mode=True), IMAGE),
    "max pool ceil with padding": (nn.MaxPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "max pool uneven": (nn.MaxPool2d((3, 2), (1, 2), (1, 0)), IMAGE),
    "avg pool": (nn.AvgPool2d(2), IMAGE),
    "avg pool with padding": (nn.AvgPool2d(3, 2, 1), IMAGE),
    "avg pool without its padding": (
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        IMAGE,
    ),
    "avg pool ceil": (nn.AvgPool2d(2, ceil_mode=True), IMAGE),
    "avg pool ceil, padded": (
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        IMAGE,
    ),
    "adaptive pool to one": (nn.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive pool": (nn.AdaptiveAvgPool2d((4, 3)), WIDE),
    "adaptive pool of one axis": (nn.AdaptiveAvgPool2d((None, 2)), WIDE),
    "flatten": (nn.Flatten(), IMAGE),
    "flatten of tokens": (nn.Flatten(1, 2), TOKENS),
}


class Holder(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def values(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", LAYERS)
def test_emitted_equals_original(
    name: str, randomise: Callable[[nn.Module], nn.Module]
) -> None:
    layer, shape = LAYERS[name]
    model = randomise(Holder(layer))
    traced = trace(model, (values(shape),))
    (operator,) = find_operators(traced)
    assert operator.template is not None, operator.reason
    verify(operator.template)
    verify(operator.concrete)
    emitted = emit_operator(operator.template, operator.bindings, operator.weights)
    for batch in (shape[0], 5):
        x = values((batch, *shape[1:]), seed=batch)
        with torch.no_grad():
            expected, found = model(x.clone()), emitted(x)
        assert found.shape == expected.shape
        error = float((found - expected).abs().max())
        assert error <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (nn.Conv2d(6, 8, 3), (6, 9, 8), "without a batch axis"),
        (nn.MaxPool2d(2, dilation=2), IMAGE, "max pooling with dilation"),
        (nn.BatchNorm2d(6, track_running_stats=False), IMAGE, "running statistics"),
        (nn.Linear(6, 2), (6,), "a feature map of rank 1"),
        (nn.Mish(), ROW, "Mish has no lowering"),
    ],
)
def test_what_is_not_covered_is_refused(
    layer: nn.Module, shape: tuple[int, ...], reason: str
) -> None:
    (operator,) = find_operators(trace(Holder(layer).eval(), (values(shape),)))
    assert operator.template is None and reason in operator.reason


class Mine(nn.Conv2d):
    """A subclass may compute anything."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def test_a_subclass_is_not_taken_for_its_base() -> None:
    model = Holder(Mine(6, 8, 1)).eval()
    traced = trace(model, (values(IMAGE),))
    assert all(op.template is None for op in find_operators(traced))
    with torch.no_grad():
        assert torch.equal(traced(values(IMAGE)), model(values(IMAGE)))
