"""What works in place becomes what does not, where later uses can be rewired."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gos_fx.passes.make_opaque import make_opaque
from gos_fx.passes.replace_in_place import replace_in_place

X = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))


class Function(nn.Module):
    def __init__(self, function: Callable[[Function, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.relu = nn.ReLU(inplace=True)
        self.leaky = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def rewritten(function: Callable[[Function, Tensor], Tensor]) -> tuple[str, bool]:
    model = Function(function).eval()
    expected = model(X.clone())
    traced = fx.symbolic_trace(model)
    modified = replace_in_place(traced, (X,)).modified
    given = X.clone()
    assert torch.equal(traced(given), expected)
    assert not replace_in_place(traced, (X,)).modified  # a fixed point
    code = traced.code
    retraced = fx.symbolic_trace(traced)
    assert torch.equal(retraced(X.clone()), expected)
    return code, modified


def used_later(m: Function, x: Tensor) -> Tensor:
    y = x * 2
    return m.relu(y) + y


def chain(m: Function, x: Tensor) -> Tensor:
    y = x * 2
    z = F.leaky_relu(F.relu(y, True).sub_(1), 0.1, inplace=True)
    return y + z


def of_an_input(m: Function, x: Tensor) -> Tensor:
    y = m.leaky(x)
    return x + y


@pytest.mark.parametrize("function", [used_later, chain, of_an_input])
def test_it_fires(function: Callable[[Function, Tensor], Tensor]) -> None:
    code, modified = rewritten(function)
    assert modified
    assert "inplace" not in code
    assert "sub_(" not in code


def test_an_augmented_assignment() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    y = graph.call_function(torch.mul, (x, 2))
    z = graph.call_function(torch.ops.aten.neg.default, (y,))
    graph.call_function(operator.iadd, (y, z))
    graph.output(y)
    traced = fx.GraphModule(nn.Module(), graph)
    assert replace_in_place(traced, (X,)).modified
    assert torch.equal(traced(X), torch.zeros_like(X))


def view_used_later(m: Function, x: Tensor) -> Tensor:
    y = x * 2
    flat = y.view(-1)
    m.relu(y)
    return flat * 3


def part_of_what_is_used_later(m: Function, x: Tensor) -> Tensor:
    y = x * 2
    F.relu(y[:, 0], inplace=True)
    y[:, 1].add_(5)
    return y


def leaky_view(m: Function, x: Tensor) -> Tensor:
    y = x * 2
    flat = y.view(-1)
    m.leaky(y)
    return flat


@pytest.mark.parametrize(
    "function", [view_used_later, part_of_what_is_used_later, leaky_view]
)
def test_shared_memory_stays_in_place(
    function: Callable[[Function, Tensor], Tensor],
) -> None:
    code, modified = rewritten(function)
    assert not modified
    assert "self.relu" not in code and "self.leaky" not in code


def test_what_has_no_other_form_is_left_alone() -> None:
    _, modified = rewritten(lambda m, x: (x * 2).zero_() + x)
    assert not modified


def test_nothing_in_place_is_not_run() -> None:
    traced = fx.symbolic_trace(Function(lambda m, x: x + 1))
    assert not replace_in_place(traced, ("not a tensor",)).modified


def test_a_residual_network_is_compiled_as_it_computes() -> None:
    class PreActivation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.second(self.relu(y)) + y  # y is what relu left of it

    torch.manual_seed(0)
    model, x = PreActivation().eval(), torch.randn(1, 1, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(make_opaque(model, (x,))(x), model(x))
