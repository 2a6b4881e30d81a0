"""Activations: as torch computes them, also behind what they belong to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gos_fx.passes.operators import find_operators
from gos_fx.passes.trace import trace

IMAGE, TOKENS, ROW = (2, 6, 9, 8), (2, 5, 6), (3, 6)
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "relu6": (nn.ReLU6(), IMAGE),
    "relu of numbers": (nn.ReLU(), (4,)),
    "tanh of rank 5": (nn.Tanh(), (2, 3, 1, 2, 2)),
    "silu of rank 6": (nn.SiLU(), (2, 3, 1, 2, 2, 3)),
    "hardtanh": (nn.Hardtanh(-0.3, 0.7), ROW),
    "hardtanh from zero": (nn.Hardtanh(0.0, 0.2), TOKENS),
    "slope beyond one": (nn.LeakyReLU(1.5), ROW),
    "slope of one": (nn.LeakyReLU(1.0), ROW),
    "negative slope": (nn.LeakyReLU(-0.1), IMAGE),
    "prelu": (nn.PReLU(init=0.3), IMAGE),
    "prelu per channel": (nn.PReLU(6), IMAGE),
    "prelu per channel of rows": (nn.PReLU(5), TOKENS),
    "prelu per feature": (nn.PReLU(6, init=-1.2), ROW),
    "elu": (nn.ELU(), IMAGE),
    "elu with alpha": (nn.ELU(-0.4), ROW),
    "silu": (nn.SiLU(), IMAGE),
    "gelu": (nn.GELU(), TOKENS),
    "gelu, tanh": (nn.GELU("tanh"), TOKENS),
    "hardsigmoid": (nn.Hardsigmoid(), IMAGE),
    "hardswish": (nn.Hardswish(), IMAGE),
    "softmax": (nn.Softmax(-1), ROW),
    "softmax of tokens": (nn.Softmax(1), TOKENS),
    "softmax of the batch": (nn.Softmax(0), TOKENS),
    "softmax of channels": (nn.Softmax(-3), IMAGE),
    "softmax of rows": (nn.Softmax(2), IMAGE),
    "softmax of rank 5": (nn.Softmax(2), (2, 3, 4, 2, 2)),
    "softmax of images": (nn.Softmax2d(), IMAGE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_emitted_equals_original(name: str, agrees: Any) -> None:
    layer, shape = LAYERS[name]
    if isinstance(layer, nn.PReLU):
        with torch.no_grad():
            layer.weight.add_(torch.linspace(-1.0, 1.0, layer.num_parameters))
    agrees(layer, shape)


@pytest.mark.parametrize(
    "layer",
    [
        *(nn.ReLU6(), nn.Hardtanh(), nn.LeakyReLU(3.0), nn.PReLU(4), nn.ELU()),
        *(nn.Hardsigmoid(), nn.Hardswish(), nn.Dropout()),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_an_activation_belongs_to_the_convolution_in_front_of_it(
    layer: nn.Module, randomise: Any
) -> None:
    model = nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), layer)
    x = torch.randn(IMAGE, generator=torch.Generator().manual_seed(0))
    (operator,) = find_operators(trace(randomise(model), (x,)))
    assert operator.modules == ("0", "1", "2")
    assert operator.template is not None
    assert operator.template.nodes[0].opcode == "cross_correlation"


def test_slopes_are_weights(lower: Any) -> None:
    one, several = lower(nn.PReLU(), IMAGE), lower(nn.PReLU(6), IMAGE)
    assert [str(v.type) for v in one.template.weights] == ["weight[()]"]
    assert [str(v.type) for v in several.template.weights] == ["weight[C_in]"]


@pytest.mark.parametrize("count", [1, 6])
def test_gradients_reach_the_slopes(count: int, lower: Any, trains: Any) -> None:
    trains(lower(nn.PReLU(count), IMAGE))


def test_what_is_not_covered_is_refused(lower: Any) -> None:
    operator = lower(nn.Softmax(1), (2, 3, 1, 2, 2, 3))
    assert operator.template is None
    assert operator.reason == "a softmax on a feature map of rank 6"
    with pytest.warns(UserWarning, match="Implicit dimension"):
        operator = lower(nn.Softmax(), ROW)
    assert operator.template is None
    assert operator.reason == "a softmax without its axis"
