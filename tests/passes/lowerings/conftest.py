"""How a lowering is compared with its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.ir.verifier import verify
from gos_fx.passes.emit import emit_operator
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.trace import trace

Shape = tuple[int, ...]


class Holder(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def values(shape: Shape, seed: int = 0, indices: int = 0) -> Tensor:
    """Normal numbers, or whole ones below ``indices``."""
    generator = torch.Generator().manual_seed(seed)
    if indices:
        return torch.randint(indices, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def lowered(layer: nn.Module, shape: Shape, indices: int = 0) -> Operator:
    """The one operator of a network of one layer."""
    traced = trace(Holder(layer).eval(), (values(shape, indices=indices),))
    (operator,) = find_operators(traced)
    return operator


def agree(
    layer: nn.Module, shape: Shape, indices: int = 0, lost: float = 3e-7
) -> Operator:
    """Check text, interpreter and emitted code of a layer against torch.

    In float64 the interpreter leaves only what constants ``lost`` in float32.
    """
    operator = lowered(layer, shape, indices)
    template = operator.template
    assert template is not None, operator.reason
    assert parse(verify(template).text) == template
    concrete = verify(operator.concrete)
    weights = operator.weights
    emitted = emit_operator(template, operator.bindings, weights)
    doubled = {name: w.double() for name, w in weights.items()}
    with torch.no_grad():
        for batch in (shape[0], 5):
            x = values((batch, *shape[1:]), batch, indices)
            close(emitted(x), layer(x.clone()), 1e-5)
        x = values(shape, 7, indices)
        close(evaluate(concrete, {"x": x, **weights}), layer(x.clone()), 1e-5)
        x = x if indices else x.double()
        precise = evaluate(concrete, {"x": x, **doubled})
        close(precise, layer.double()(x.clone()), lost)
        layer.float()
    return operator


def close(found: Tensor, expected: Tensor, share: float) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    error = float((found - expected).abs().max())
    assert error <= share * float(expected.abs().max())


@pytest.fixture
def lower() -> Callable[..., Operator]:
    return lowered


@pytest.fixture
def agrees(randomise: Callable[[nn.Module], nn.Module]) -> Callable[..., Operator]:
    def check(layer: nn.Module, shape: Shape, **more: Any) -> Operator:
        return agree(randomise(layer), shape, **more)

    return check


@pytest.fixture
def trains() -> Callable[[Operator], None]:
    """Checks that a gradient reaches the map and every weight of what is emitted."""

    def check(operator: Operator) -> None:
        assert operator.template is not None
        module = emit_operator(operator.template, operator.bindings, operator.weights)
        (x,) = operator.concrete.maps
        source = values(tuple(int(d) for d in x.type.shape)).requires_grad_()
        module(source).square().sum().backward()
        assert source.grad is not None and bool(source.grad.abs().max() > 0)
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.abs().max() > 0), name

    return check
