"""Functional calls become the layers that compute the same, and only those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gos_fx.passes.bind_inputs import bind_inputs
from gos_fx.passes.modularize import modularize
from gos_fx.passes.operators import find_operators
from gos_fx.passes.trace import trace

GENERATOR = torch.Generator().manual_seed(5)
IMAGE = torch.randn(2, 4, 9, 8, generator=GENERATOR)
ROWS = torch.randn(3, 4, generator=GENERATOR)


class Functional(nn.Module):
    """A forward of functions with weights of its own."""

    def __init__(self, function: Callable[[Functional, Tensor], Any]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator))

        self.function = function
        self.w, self.b, self.grouped = draw(8, 4, 3, 3), draw(8), draw(8, 2, 3, 1)
        self.matrix, self.cube = draw(5, 4), draw(5, 4, 1)
        self.gain, self.shift = draw(4), draw(4)
        self.register_buffer("mean", torch.randn(4, generator=generator))
        self.register_buffer("var", torch.rand(4, generator=generator) + 0.5)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def rewritten(
    function: Callable[[Functional, Tensor], Any], x: Tensor
) -> tuple[fx.GraphModule, bool]:
    model = Functional(function).eval()
    traced = fx.symbolic_trace(model)
    state = torch.get_rng_state()
    modified = modularize(traced, (x,)).modified
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        torch.testing.assert_close(traced(x), model(x))
    assert not modularize(traced, (x,)).modified  # a fixed point
    return traced, modified


def layers(traced: fx.GraphModule) -> list[str]:
    modules = dict(traced.named_modules())
    return [
        type(modules[str(n.target)]).__name__
        for n in traced.graph.nodes
        if n.op == "call_module"
    ]


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (lambda m, x: torch.conv2d(x, m.w, m.b, 2, (1, 0)), IMAGE, ["Conv2d"]),
        (lambda m, x: F.conv2d(x, m.w, padding="same"), IMAGE, ["Conv2d"]),
        (
            lambda m, x: F.conv2d(x, m.grouped, groups=2, dilation=(2, 1), stride=[1]),
            IMAGE,
            ["Conv2d"],
        ),
        (lambda m, x: F.linear(x, m.matrix, bias=None), ROWS, ["Linear"]),
        (lambda m, x: F.linear(x, m.matrix), IMAGE.transpose(1, 3), ["Linear"]),
        (
            lambda m, x: F.batch_norm(x, m.mean, m.var, m.gain, m.shift, False),
            IMAGE,
            ["BatchNorm2d"],
        ),
        (lambda m, x: F.batch_norm(x, m.mean, m.var), ROWS, ["BatchNorm1d"]),
        (lambda m, x: F.relu(torch.relu(x.relu() - 1)), ROWS, ["ReLU"] * 3),
        (lambda m, x: F.leaky_relu(x, 0.3), ROWS, ["LeakyReLU"]),
        (lambda m, x: torch.tanh(x.sigmoid()), ROWS, ["Sigmoid", "Tanh"]),
        (lambda m, x: F.max_pool2d(x, 3, 2, 1), IMAGE, ["MaxPool2d"]),
        (lambda m, x: F.max_pool2d(x, (2, 3), ceil_mode=True), IMAGE, ["MaxPool2d"]),
        (
            lambda m, x: F.avg_pool2d(x, 2, 1, 1, False, False),
            IMAGE,
            ["AvgPool2d"],
        ),
        (
            lambda m, x: torch.flatten(F.adaptive_avg_pool2d(x, 1), 1),
            IMAGE,
            ["AdaptiveAvgPool2d", "Flatten"],
        ),
        (lambda m, x: x.flatten(1) + F.dropout(x, 0.5, False).flatten(1), IMAGE, 2),
    ],
)
def test_it_fires(
    function: Callable[[Functional, Tensor], Any], x: Tensor, expected: list[str] | int
) -> None:
    traced, modified = rewritten(function, x)
    assert modified
    wanted = ["Flatten"] * expected if isinstance(expected, int) else expected
    assert layers(traced) == wanted
    assert "dropout" not in traced.code


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda m, x: torch.conv2d(x, m.w * 2), IMAGE),  # not an attribute
        (lambda m, x: F.linear(x, x), ROWS),
        (lambda m, x: F.batch_norm(x, None, None, training=True), IMAGE),
        (lambda m, x: F.batch_norm(x, m.mean, m.var, m.gain), IMAGE),
        (lambda m, x: F.batch_norm(x[..., None], m.mean, m.var), IMAGE),
        (lambda m, x: F.relu(x + 0, inplace=True), ROWS),
        (lambda m, x: F.max_pool2d(x, 2, return_indices=True), IMAGE),
        (lambda m, x: torch.flatten(x), IMAGE),
        (lambda m, x: x.flatten(1, 2), IMAGE),
        (lambda m, x: torch.sigmoid(x, out=x + 0), ROWS),
        (lambda m, x: F.gelu(x), ROWS),
    ],
)
def test_it_must_not_fire(
    function: Callable[[Functional, Tensor], Any], x: Tensor
) -> None:
    traced, modified = rewritten(function, x)
    assert not modified
    assert layers(traced) == []


def test_the_layers_become_operators() -> None:
    def block(m: Functional, x: Tensor) -> Tensor:
        x = F.batch_norm(x, m.mean, m.var, m.gain, m.shift)
        return F.relu(F.conv2d(x, m.w, m.b))

    traced, _ = rewritten(block, IMAGE)
    operators = find_operators(trace(traced, (IMAGE,)))
    assert [op.template is not None for op in operators] == [True, True]
    assert [len(op.nodes) for op in operators] == [1, 2]
    assert not any(n.op == "get_attr" for n in traced.graph.nodes)


def test_names_that_are_taken() -> None:
    class Taken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.Sigmoid()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(F.relu(x))

    traced = fx.symbolic_trace(Taken())
    modularize(traced, (ROWS,))
    assert layers(traced) == ["ReLU", "Sigmoid"]
    torch.testing.assert_close(traced(ROWS), ROWS.relu().sigmoid())


def test_bound_inputs_are_weights_and_numbers() -> None:
    def forward(x: Tensor, w: Tensor, n: int, y: Tensor) -> tuple[Tensor, int]:
        return torch.nn.functional.linear(x, w).view(n, -1) + y, n

    traced = fx.symbolic_trace(forward)
    w, y = torch.randn(6, 4), torch.randn(3, 6)
    bound = bind_inputs(traced, {"w": w, "n": 3})
    assert [n.name for n in bound.graph.nodes if n.op == "placeholder"] == ["x", "y"]
    found, n = bound(ROWS, y)
    torch.testing.assert_close(found, F.linear(ROWS, w) + y)
    assert n == 3
    assert dict(bound.named_parameters())["w"].data_ptr() == w.data_ptr()
    assert traced(ROWS, w, 3, y)[1] == 3  # what was given is not changed
    assert modularize(bound, (ROWS, y)).modified


def test_a_number_in_the_place_of_a_tensor() -> None:
    traced = fx.symbolic_trace(lambda x, eps: x + eps.item())
    bound = bind_inputs(traced, {"eps": 0.5})
    assert "item" not in bound.code
    torch.testing.assert_close(bound(ROWS), ROWS + 0.5)
