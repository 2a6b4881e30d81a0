"""Attention: templates against torch's own module and function."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import gos_fx
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.operators import Operator, find_operators
from gos_fx.passes.sizes import note_sizes
from gos_fx.passes.trace import trace


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


class Attention(nn.Module):
    """Attention of a sequence to itself, or to others."""

    def __init__(self, layer: nn.Module, used: tuple[int, ...] = (0,), **more: Any):
        super().__init__()
        self.layer, self.used, self.more = layer, used, more
        self.register_buffer("mask", more.pop("attn_mask", None))

    def forward(self, x: Tensor) -> Any:
        result = self.layer(x, x, x, attn_mask=self.mask, **self.more)
        return tuple(result[i] for i in self.used)


class Across(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Any:
        return self.layer(x, y, z)


class Twice(Across):
    def forward(self, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
        return self.layer(x, y, y)


def lowered(model: nn.Module, *inputs: Tensor) -> tuple[fx.GraphModule, Operator]:
    traced = trace(model.eval(), inputs)
    (operator,) = find_operators(traced)
    return traced, operator


def check(model: nn.Module, *inputs: Tensor) -> tuple[Operator, fx.GraphModule]:
    traced, operator = lowered(model, *inputs)
    assert operator.template is not None, operator.reason
    module = emit_operator(operator.template, operator.bindings, operator.weights)
    network = replace_operators(traced, [(operator, module)])
    for a, b in zip(network(*inputs), model(*inputs), strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))
    return operator, network


@pytest.mark.parametrize(
    ("first", "bias"), [*itertools.product((True, False), repeat=2)]
)
def test_to_itself(first: bool, bias: bool) -> None:
    layer = nn.MultiheadAttention(12, 3, batch_first=first, bias=bias)
    x = torch.randn(2, 5, 12)
    check(Attention(layer, need_weights=False), x)
    check(Attention(layer, (0, 1)), x)
    check(Attention(layer, (1,), average_attn_weights=False), x)


def test_to_others() -> None:
    """Keys and values of other sizes and lengths."""
    layer = nn.MultiheadAttention(12, 3, kdim=7, vdim=9, batch_first=True)
    x, y, z = torch.randn(2, 5, 12), torch.randn(2, 4, 7), torch.randn(2, 4, 9)
    check(Across(layer), x, y, z)
    check(
        Twice(nn.MultiheadAttention(12, 2)),
        torch.randn(5, 2, 12),
        z[..., :1].expand(2, 4, 12).transpose(0, 1).contiguous(),
    )


@pytest.mark.parametrize("kind", [torch.float32, torch.bool])
def test_masks(kind: torch.dtype) -> None:
    mask = torch.full((5, 5), True).triu(1)
    if kind == torch.float32:
        mask = torch.randn(5, 5).masked_fill(mask, float("-inf"))
    layer = nn.MultiheadAttention(12, 3, batch_first=True)
    check(Attention(layer, (0, 1), attn_mask=mask), torch.randn(2, 5, 12))


def test_similar_layers_have_one_template() -> None:
    layers = [(nn.MultiheadAttention(12, 3), 5), (nn.MultiheadAttention(8, 4), 6)]
    templates = {
        check(Attention(layer), torch.randn(n, 2, layer.embed_dim))[0].template
        for layer, n in layers
    }
    assert len(templates) == 1


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), (3, 2, 4), "rows added"),
        (nn.MultiheadAttention(4, 2, add_zero_attn=True), (3, 2, 4), "rows added"),
        (nn.MultiheadAttention(4, 2), (3, 4), "without a batch"),
    ],
)
def test_refused(layer: nn.Module, shape: tuple[int, ...], reason: str) -> None:
    _, operator = lowered(Attention(layer), torch.zeros(shape))
    assert operator.template is None and reason in operator.reason


@pytest.mark.parametrize("used", [(0,), (0, 1)])
def test_compiled(used: tuple[int, ...]) -> None:
    layer = nn.MultiheadAttention(16, 4)
    model = Attention(layer, used, attn_mask=torch.full((5, 5), True).triu(1))
    x = torch.randn(5, 2, 16)
    network = check(model, x)[1]
    compiled = gos_fx.compile(network, "host", example_inputs=(x,))
    for a, b in zip(compiled(x), model(x), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-5)


class Product(nn.Module):
    """The function, on heads that come in."""

    def __init__(self, mask: Tensor | None = None, **more: Any) -> None:
        super().__init__()
        self.more = more
        self.register_buffer("mask", mask)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, **self.more)


class Masked(nn.Module):
    """A mask that another layer computes."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, m: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, m)


def as_function(model: nn.Module, *inputs: Tensor) -> tuple[fx.GraphModule, Operator]:
    traced = trace(model.eval(), inputs)
    note_sizes(traced, inputs)
    (operator,) = find_operators(traced, functions=True)
    return traced, operator


def check_function(model: nn.Module, *inputs: Tensor) -> None:
    traced, operator = as_function(model, *inputs)
    assert operator.template is not None, operator.reason
    module = emit_operator(operator.template, operator.bindings, operator.weights)
    network = replace_operators(traced, [(operator, module)])
    a, b = network(*inputs), model(*inputs)
    assert a.shape == b.shape
    assert torch.allclose(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 3, 5, 8)])
def test_function(shape: tuple[int, ...]) -> None:
    inputs = [torch.randn(shape) for _ in range(3)]
    short = [x[..., :4, :] for x in inputs[1:]]
    for model in (
        Product(),
        Product(is_causal=True),
        Product(scale=0.3),
        Product(torch.randn(5, 5)),
        Product(torch.ones(5, 5, dtype=torch.bool).tril()),
    ):
        check_function(model, *inputs)
    check_function(Product(), inputs[0], *short)
    check_function(Masked(), *inputs, torch.randn(5, 5))


@pytest.mark.parametrize(
    ("model", "heads", "reason"),
    [
        (Product(dropout_p=0.5), 3, "dropout"),
        (Product(enable_gqa=True), 1, "heads"),
    ],
)
def test_function_refused(model: nn.Module, heads: int, reason: str) -> None:
    q, k = torch.randn(2, 3, 5, 8), torch.randn(2, heads, 5, 8)
    _, operator = as_function(model, q, k, k)
    assert operator.template is None and reason in operator.reason
