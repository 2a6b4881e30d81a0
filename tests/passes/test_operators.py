"""The operators of a network: who belongs to whom, and who has a template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gos_fx.errors import Unsupported
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.verifier import verify
from gos_fx.passes.fold_batch_norm import fold_batch_norm
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.trace import trace

Randomise = Callable[[nn.Module], nn.Module]


def operators(model: nn.Module, x: Tensor, *, fold: bool = True) -> list[Operator]:
    traced = trace(model, (x,))
    if fold:
        fold_batch_norm(traced)
    found = list(find_operators(traced))
    calls = Counter(n.name for n in traced.graph.nodes if n.op == "call_module")
    assert Counter(name for op in found for name in op.nodes) == calls
    return found


def test_convolution_norm_and_activation_are_one(
    residual: nn.Module, images: Tensor
) -> None:
    found = operators(residual, images)
    assert [op.name for op in found] == [
        *("conv1", "conv2", "shortcut.0", "relu_1", "pool", "flatten", "head"),
    ]
    first = found[0]
    assert first.modules == ("conv1", "bn1", "relu")
    assert first.nodes == ("conv1", "relu")
    assert found[2].modules == ("shortcut.0", "shortcut.1")
    assert first.template is not None
    assert first.parameters == 8 * 3 * 9 + 8  # the norm left a bias behind
    assert not any(op.reason for op in found)


def test_without_folding_the_norm_is_lowered(
    residual: nn.Module, images: Tensor
) -> None:
    found = operators(residual, images, fold=False)
    assert found[0].modules == found[0].nodes == ("conv1", "bn1", "relu")
    assert found[0].template is not None
    roles = {v.name: v.type.role for v in found[0].template.weights}
    assert roles == {
        "w": "weight",
        "mean": "constant",
        "var": "constant",
        "gain": "weight",
        "shift": "weight",
    }


def test_graphs_compute_what_the_modules_do(
    residual: nn.Module, images: Tensor
) -> None:
    found = operators(residual, images)
    with torch.no_grad():
        expected = residual.relu(residual.bn1(residual.conv1(images)))
        graph = verify(found[0].concrete)
        result = evaluate(graph, {"x": images, **found[0].weights})
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_equal_templates_for_similar_operators(images: Tensor) -> None:
    layers = [
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 16, 5, stride=2), nn.ReLU()),
        *(nn.Conv2d(16, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 1)),
    ]
    one, two, tanh, point = operators(nn.Sequential(*layers).eval(), images)
    assert one.template == two.template and one.bindings != two.bindings
    assert one.template != tanh.template != point.template


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.conv(self.conv(x)))


def test_a_convolution_called_twice_stays() -> None:
    first, second, other = operators(Twice().eval(), torch.randn(1, 4, 5, 5))
    for op in (first, second):
        assert op.template is None
        assert op.reason == "it is called more than once with the same weights"
        with pytest.raises(Unsupported, match="called more than once"):
            _ = op.concrete
    assert other.template is not None


class Odd(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@pytest.mark.parametrize(
    ("layer", "x", "reason"),
    [
        (nn.Mish(), torch.randn(2, 4), "Mish has no lowering"),
        (nn.Bilinear(2, 2, 2), torch.randn(2, 2), "Bilinear has no lowering"),
        (
            nn.MaxPool2d(2, return_indices=True),
            torch.randn(1, 2, 4, 4),
            "it does not give exactly one tensor",
        ),
        (nn.ReLU(), torch.randn(2, 4).double(), "it works on torch.float64"),
    ],
)
def test_what_stays_says_why(layer: nn.Module, x: Tensor, reason: str) -> None:
    class Model(Odd):
        def forward(self, x: Tensor) -> Tensor:
            if isinstance(self.layer, nn.Bilinear):
                return self.layer(x, x + 1)
            return self.layer(x)

    (found,) = operators(Model(layer).eval(), x)
    assert found.template is None and reason in found.reason


def test_an_activation_read_elsewhere_ends_the_chain() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.relu(y) + y

    conv, relu = operators(Split().eval(), torch.randn(1, 3, 4, 4))
    assert conv.nodes == ("conv",) and relu.nodes == ("relu",)
