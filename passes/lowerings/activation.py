"""Activations that are one instruction."""

from __future__ import annotations

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Lowering, Shape, lowering


@lowering(nn.ReLU, activation=True)
def relu(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    return state.builder.emit("relu", x, slope=0.0)


@lowering(nn.LeakyReLU, activation=True)
def leaky_relu(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    assert isinstance(module, nn.LeakyReLU)
    if not 0.0 <= module.negative_slope < 1.0:
        raise Unsupported(f"a slope of {module.negative_slope}")
    return state.builder.emit("relu", x, slope=float(module.negative_slope))


@lowering(nn.Sigmoid, activation=True)
def sigmoid(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    return state.builder.emit("sigmoid", x)


@lowering(nn.Tanh, activation=True)
def tanh(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    return state.builder.emit("tanh", x)
