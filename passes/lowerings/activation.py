"""Activations from their formulas; products with a number instead of quotients."""

from __future__ import annotations

import math

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.ir.types import AXES
from gos_fx.passes.lower import Lowering, Shape, lowering
from gos_fx.passes.lowerings.layout import any_rank, channels_first, lift, restore


def times(state: Lowering, x: str, factor: float) -> str:
    """x factor"""
    return _with(state, "hadamard", x, factor)


def plus(state: Lowering, x: str, term: float) -> str:
    """x + term"""
    return _with(state, "add", x, term)


def _with(state: Lowering, opcode: str, x: str, value: float) -> str:
    number = state.builder.emit("scalar", value=float(value))
    return state.builder.emit(opcode, x, number)


def _clip(state: Lowering, x: str, low: float, high: float) -> str:
    """min(max(x, low), high)"""
    if low == 0.0:
        x = state.builder.emit("relu", x, slope=0.0)
    else:
        x = _with(state, "max", x, low)
    return _with(state, "min", x, high)


@lowering(nn.ReLU, activation=True, axes=any_rank)
def relu(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    return state.builder.emit("relu", x, slope=0.0)


@lowering(nn.ReLU6, activation=True, axes=any_rank)
@lowering(nn.Hardtanh, activation=True, axes=any_rank)
def hardtanh(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """ReLU6 is the one between 0 and 6."""
    assert isinstance(module, nn.Hardtanh)
    return _clip(state, x, module.min_val, module.max_val)


@lowering(nn.LeakyReLU, activation=True, axes=any_rank)
def leaky_relu(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """max(slope x, x) up to a slope of one, relu(x) + slope min(x, 0) for any other."""
    assert isinstance(module, nn.LeakyReLU)
    slope = float(module.negative_slope)
    if 0.0 <= slope < 1.0:
        return state.builder.emit("relu", x, slope=slope)
    positive = state.builder.emit("relu", x, slope=0.0)
    negative = times(state, _with(state, "min", x, 0.0), slope)
    return state.builder.emit("add", positive, negative)


@lowering(nn.PReLU, activation=True, axes=channels_first)
def prelu(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """relu(x) + slope min(x, 0), one slope or one for each channel"""
    assert isinstance(module, nn.PReLU)
    b, slope = state.builder, module.weight
    if module.num_parameters == 1:
        name = state.weight("slope", (), slope.detach().reshape(()))
    else:
        x = lift(state, x)
        name = state.weight("slope", b.types[x].shape[1:2], slope)
    negative = b.emit("hadamard", _with(state, "min", x, 0.0), name)
    value = b.emit("add", b.emit("relu", x, slope=0.0), negative)
    return restore(state, value, len(before) if module.num_parameters > 1 else 0)


@lowering(nn.ELU, activation=True, axes=any_rank)
def elu(state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape) -> str:
    """relu(x) + alpha (e^min(x, 0) - 1)"""
    assert isinstance(module, nn.ELU)
    b = state.builder
    power = b.emit("exp", _with(state, "min", x, 0.0))
    negative = times(state, plus(state, power, -1.0), module.alpha)
    return b.emit("add", b.emit("relu", x, slope=0.0), negative)


@lowering(nn.Sigmoid, activation=True, axes=any_rank)
def sigmoid(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    return state.builder.emit("sigmoid", x)


@lowering(nn.Tanh, activation=True, axes=any_rank)
def tanh(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    return state.builder.emit("tanh", x)


@lowering(nn.SiLU, activation=True, axes=any_rank)
def silu(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """x sigmoid(x)"""
    return state.builder.emit("hadamard", x, state.builder.emit("sigmoid", x))


@lowering(nn.GELU, activation=True, axes=any_rank)
def gelu(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """0.5 x (1 + erf(x / sqrt 2)); with ``tanh``, that of
    sqrt(2 / pi) (x + 0.044715 x^3) in place of erf (Hendrycks and Gimpel, 2016)"""
    assert isinstance(module, nn.GELU)
    b = state.builder
    if module.approximate == "tanh":
        factor = plus(state, times(state, b.emit("hadamard", x, x), 0.044715), 1.0)
        inner = times(state, b.emit("hadamard", x, factor), math.sqrt(2.0 / math.pi))
        weight = b.emit("tanh", inner)
    else:
        weight = b.emit("erf", times(state, x, math.sqrt(0.5)))
    return b.emit("hadamard", times(state, x, 0.5), plus(state, weight, 1.0))


@lowering(nn.Hardsigmoid, activation=True, axes=any_rank)
def hardsigmoid(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """min(relu(x / 6 + 1 / 2), 1)"""
    return _clip(state, plus(state, times(state, x, 1.0 / 6.0), 0.5), 0.0, 1.0)


@lowering(nn.Hardswish, activation=True, axes=any_rank)
def hardswish(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """x hardsigmoid(x)"""
    return state.builder.emit(
        "hadamard", x, hardsigmoid(state, module, x, before, after)
    )


@lowering(nn.Softmax, axes=any_rank)
@lowering(nn.Softmax2d)
def softmax(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """Softmax2d is the one over the channels of images."""
    dim = -3 if isinstance(module, nn.Softmax2d) else module.dim
    if dim is None:
        raise Unsupported("a softmax without its axis")
    if len(before) not in AXES:
        raise Unsupported(f"a softmax on a feature map of rank {len(before)}")
    axis = AXES[len(before)][int(dim)]  # type: ignore[arg-type]
    return state.builder.emit("softmax", x, axis=axis)
