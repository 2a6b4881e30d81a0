"""Functions and methods between modules: lowered, emitted, the same at every batch."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.lowered import lower_model
from gos_fx.passes.emit import emit_operator
from gos_fx.passes.nested import largest_difference

IMAGE, TOKENS, ROW = (2, 6, 4, 5), (2, 5, 6), (2, 6)
Function = Callable[..., Any]


def two(function: Function) -> Function:
    """Of a map and another one computed from it."""
    return lambda x: function(x, torch.tanh(x) + 2.0)


FUNCTIONS: dict[str, tuple[Function, tuple[int, ...]]] = {
    "sum": (two(operator.add), IMAGE),
    "sum with a factor": (two(lambda x, y: torch.add(x, y, alpha=0.5)), IMAGE),
    "difference": (two(operator.sub), TOKENS),
    "product": (two(torch.mul), IMAGE),
    "quotient": (two(operator.truediv), IMAGE),
    "maximum": (two(torch.maximum), ROW),
    "minimum": (two(torch.minimum), ROW),
    "a number on the left": (lambda x: 1.0 - x * 2 / 3 + 4, IMAGE),
    "a number over": (lambda x: 2.0 / (x * x + 1.0), IMAGE),
    "negative": (lambda x: -x, ROW),
    "powers": (lambda x: (x.abs() + 1) ** 0.5 + x.pow(3) + (x**2 + 1) ** -2, ROW),
    "square root": (lambda x: torch.rsqrt(x * x + 1) + torch.sqrt(x * x), ROW),
    "exponential": (lambda x: torch.exp(x) + torch.erf(x), TOKENS),
    "clamp": (lambda x: x.clamp(min=-0.5).clamp(-0.2, 0.3), IMAGE),
    "gate": (lambda x: x * F.adaptive_avg_pool2d(x, 1).sigmoid(), IMAGE),
    "flatten": (lambda x: torch.flatten(x, 1), IMAGE),
    "flatten of the last": (lambda x: x.flatten(2), IMAGE),
    "view": (lambda x: x.view(x.size(0), -1, 10), IMAGE),
    "reshape with the batch": (lambda x: x.reshape(-1, 3) * 2, TOKENS),
    "squeeze": (lambda x: x.mean((2, 3), keepdim=True).squeeze(3).squeeze(2), IMAGE),
    "unsqueeze": (lambda x: x.unsqueeze(1).unsqueeze(-1), ROW),
    "permute": (lambda x: x.permute(0, 2, 3, 1), IMAGE),
    "transpose": (lambda x: x.transpose(-1, -2).contiguous(), TOKENS),
    "shuffle": (
        lambda x: x.view(x.shape[0], 2, 3, 4, 5).transpose(1, 2).reshape(x.shape),
        IMAGE,
    ),
    "index": (lambda x: x[:, 0], TOKENS),
    "last index": (lambda x: x[:, -1], TOKENS),
    "slice": (lambda x: x[:, 1:4:2, ..., :-1], IMAGE),
    "new axis": (lambda x: x[:, None, :, 2], TOKENS),
    "narrow": (lambda x: x.narrow(1, 2, 3), TOKENS),
    "select": (lambda x: x.select(2, 1), IMAGE),
    "concatenation": (two(lambda x, y: torch.cat([x, y, x], 1)), IMAGE),
    "stack": (two(lambda x, y: torch.stack((x, y), dim=2)), ROW),
    "chunk": (lambda x: x.chunk(2, dim=1)[0] * x.chunk(2, dim=1)[1], IMAGE),
    "split": (lambda x: torch.split(x, [1, 2, 3], -1)[2], TOKENS),
    "unbind": (lambda x: x.unbind(1)[3] + x.unbind(1)[0], TOKENS),
    "less the last": (lambda x: torch.cat([x[:1], x[:-1]]), TOKENS),
    "behind the first": (lambda x: x[1:] * 2, ROW),
    "the last": (lambda x: x[-1].unsqueeze(0) + x[0], TOKENS),
    "mean over the batch": (lambda x: x - x.mean(0, keepdim=True), ROW),
    "flip": (lambda x: x.flip(1, -1), TOKENS),
    "mean": (lambda x: x.mean([2, 3]), IMAGE),
    "mean of one axis": (lambda x: x.mean(1, keepdim=True), TOKENS),
    "sum over an axis": (lambda x: x.sum(-1), TOKENS),
    "largest": (lambda x: x.amax((1, 2)) - x.amin((1, 2)), IMAGE),
    "matrix product": (lambda x: x @ x.transpose(1, 2), TOKENS),
    "batched product": (lambda x: torch.bmm(x, x.permute(0, 2, 1)), TOKENS),
    "expansion to another": (lambda x: x[:, :1].expand_as(x) * x, TOKENS),
    "expansion": (lambda x: x[:, :1].expand(-1, 5, -1) + 0, TOKENS),
    "hardswish": (F.hardswish, IMAGE),
    "hardsigmoid": (F.hardsigmoid, IMAGE),
    "relu6": (F.relu6, IMAGE),
    "silu": (F.silu, TOKENS),
    "gelu": (F.gelu, TOKENS),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), TOKENS),
    "elu": (F.elu, ROW),
    "softmax": (lambda x: F.softmax(x, dim=-1), TOKENS),
    "softmax method": (lambda x: x.softmax(1), TOKENS),
    "layer norm": (lambda x: F.layer_norm(x, (6,)), TOKENS),
    "pooling": (lambda x: F.max_pool2d(F.avg_pool2d(x, 3, 1, 1), 2), IMAGE),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False) + 1, ROW),
    "interpolation": (lambda x: F.interpolate(x, scale_factor=2.0), IMAGE),
    "interpolation to a map's size": (
        lambda x: F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:], mode="nearest"),
        IMAGE,
    ),
    "a constant": (lambda x: x + torch.arange(x.shape[-1], dtype=x.dtype), TOKENS),
    "padding": (lambda x: F.pad(x, (1, 2, 0, 1)), IMAGE),
}


class Holder(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def values(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(model: nn.Module, shape: tuple[int, ...]) -> None:
    lowered = lower_model(model.eval(), (values(shape),))
    assert not lowered.coverage.missing
    back = lowered.to_graph_module()
    for batch in (shape[0], 4, 3):
        x = values((batch, *shape[1:]), seed=batch)
        with torch.no_grad():
            assert largest_difference(back(x), model(x)) <= 1e-5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_emitted_equals_original(name: str) -> None:
    function, shape = FUNCTIONS[name]
    check(Holder(function), shape)


@pytest.mark.parametrize("name", ["view", "flatten", "new axis", "expansion"])
def test_a_batch_of_one_is_still_a_batch(name: str) -> None:
    function, shape = FUNCTIONS[name]
    check(Holder(function), (1, *shape[1:]))


class Weights(nn.Module):
    """Parameters that meet maps, and chains that depend on parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(values((1, 1, 6)))
        self.position = nn.Parameter(values((8, 6), 1))
        self.gain = nn.Parameter(values((6,), 2))
        self.matrix = nn.Parameter(values((4, 6), 3))
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("mask", torch.ones(6).cumsum(0))

    def forward(self, x: Tensor) -> Tensor:
        token = self.token.expand(x.shape[0], -1, -1)
        x = torch.cat([token, x], dim=1)
        x = x + self.position[: x.shape[1]].unsqueeze(0)
        x = x * self.gain * self.scale - self.mask
        return F.linear(x, self.matrix) @ self.matrix


def test_parameters_are_weights_of_what_reads_them() -> None:
    check(Weights(), TOKENS)
    lowered = lower_model(Weights().eval(), (values(TOKENS),))
    first, second, *_ = lowered.operators
    assert first.name == "cat" and set(first.weights) == {"w"}
    assert [node.opcode for node in first.concrete.nodes] == ["zeros", "add", "concat"]
    assert second.parameters == 8 * 6  # the whole parameter trains
    back = lowered.to_graph_module()
    names = {name for name, _ in back.named_parameters()}
    assert names == {"cat.w", "add.w", "mul.w", "mul_1.w", "linear.w"}
    back(values(TOKENS)).sum().backward()
    assert all(p.grad is not None for p in back.parameters())
    assert back.linear.w is back.matmul.w  # the same matrix twice
    sizes = sum(p.numel() for p in back.parameters())
    assert sizes == sum(p.numel() for p in Weights().parameters())


@pytest.mark.parametrize(
    ("function", "shape", "reason"),
    [
        (lambda x: x.cumsum(1), ROW, "cumsum has no lowering"),
        (lambda x: x + torch.arange(x.size(0))[:, None], ROW, "arange has no lowering"),
        (lambda x: x.abs() ** 2.5, ROW, "the power 2.5"),
        (lambda x: x.chunk(2)[0], ROW, "parts of the batch"),
        (lambda x: x[::2], ROW, "every 2 of N"),
        (lambda x: x[:, [0, 2]], TOKENS, "an index that is no number: [0, 2]"),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), ROW, "rounding_mode"),
        (lambda x: x @ x[0, 0], TOKENS, "a product with a vector"),
        (lambda x: x + torch.ones_like(x).double(), ROW, "torch.float64"),
        (lambda x: F.normalize(x), ROW, "normalize has no lowering"),
    ],
)
def test_what_stays_says_why(
    function: Function, shape: tuple[int, ...], reason: str
) -> None:
    model = Holder(function).eval()
    lowered = lower_model(model, (values(shape),))
    assert any(reason in why for why in lowered.coverage.missing.values())
    x = values(shape, 1)
    assert torch.equal(lowered.to_graph_module()(x), model(x))


def test_one_more_name_than_one_module_has() -> None:
    class Clash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.add(x) + x

    model = Clash().eval()
    lowered = lower_model(model, (values(ROW),))
    assert len({op.name for op in lowered.operators}) == 2
    back = lowered.to_graph_module()
    assert largest_difference(back(values(ROW)), model(values(ROW))) <= 1e-5


def test_several_maps_and_results_of_one_graph() -> None:
    lowered = lower_model(Holder(two(torch.mul)).eval(), (values(ROW),))
    product = lowered.operators[-1]
    assert product.inputs == ("x", "add") and product.outputs == ("mul",)
    parts = lower_model(Holder(lambda x: x.chunk(3, 1)).eval(), (values(ROW),))
    (chunk,) = parts.operators
    assert len(chunk.outputs) == 3 and chunk.concrete.result.is_bundle
    module = emit_operator(chunk.concrete, chunk.bindings, {})
    for found, wanted in zip(module(values(ROW)), values(ROW).chunk(3, 1), strict=True):
        assert torch.equal(found, wanted)
