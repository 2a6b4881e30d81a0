"""Attention: products, a softmax, and between them reshapes into heads and back."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.errors import Unsupported
from gos_fx.ir.builder import Builder
from gos_fx.ir.dim import symbol
from gos_fx.ir.types import AXES
from gos_fx.passes.functions.operands import Dims, aligned, shape_of, value_of
from gos_fx.passes.lower import Call, Lowering, Value, function, lowering

_HEADS = (0, 2, 1, 3)  # [N, T, G, C_h] <-> [N, G, T, C_h]


def shares(b: Builder, query: str, key: str, scale: str, mask: str | None) -> str:
    """softmax(scale q k^T + mask) along the last axis"""
    rank = len(b.types[key].shape)
    axes = (*range(rank - 2), rank - 1, rank - 2)
    scores = b.emit("matmul", query, b.emit("transpose", key, axes=axes))
    scores = b.emit("hadamard", scores, scale)
    if mask is not None:
        scores = b.emit("add", scores, mask)
    return b.emit("softmax", scores, axis=AXES[rank][-1])


# In the place of minus infinity, since weights are finite numbers: its share is 0 too.
_UNSEEN = torch.finfo(torch.float32).min


def causal(rows: int, columns: int) -> Tensor:
    """Added to scores: what a query must not see, because it comes later."""
    return torch.full((rows, columns), _UNSEEN).triu(1)


def added(mask: Tensor) -> Tensor:
    """A mask that is added to scores; of one that says what is seen, its meaning."""
    if mask.dtype != torch.bool:
        return mask.clamp(min=_UNSEEN)
    return torch.zeros(mask.shape).masked_fill(~mask, _UNSEEN)


@function(F.scaled_dot_product_attention)
def scaled_dot_product_attention(
    state: Lowering,
    out: Dims,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> str:
    """softmax(scale q k^T + mask) v, batched over all axes but the last two."""
    q, k, v = (value_of(state, x) for x in (query, key, value))
    shapes = [shape_of(state, name) for name in (q, k, v)]
    if enable_gqa or len({shape[:-2] for shape in shapes}) > 1:
        raise Unsupported("attention with other heads for keys than for queries")
    if dropout_p:
        raise Unsupported("attention with dropout")
    if is_causal:
        rows, columns = (int(shape[-2]) for shape in shapes[:2])  # type: ignore[arg-type]
        attn_mask = causal(rows, columns)
    if isinstance(attn_mask, Tensor):
        attn_mask = Value(
            state.attribute(added(attn_mask), "mask"), tuple(attn_mask.shape)
        )
    b = state.builder
    factor = 1 / sqrt(int(shapes[0][-1])) if scale is None else scale  # type: ignore[arg-type]
    number = b.emit("scalar", value=factor)
    mask = None
    if attn_mask is not None:
        mask = aligned(state, attn_mask, query)[0]
    return b.emit("matmul", shares(b, q, k, number, mask), v)


@lowering(nn.MultiheadAttention, whole=True)
def multihead_attention(
    state: Lowering, module: nn.MultiheadAttention, call: Call
) -> list[str]:
    """Heads of width C_h with an attention each, between two linear layers.

    Raises:
        Unsupported: rows added to the keys, masks of single keys or heads, sequences
            without a batch.
    """
    if module.bias_k is not None or module.bias_v is not None or module.add_zero_attn:
        raise Unsupported("attention with rows added to keys and values")
    if call["key_padding_mask"] is not None:
        raise Unsupported("attention with a mask of padded keys")
    if len(call["query"].shape) != 3:
        raise Unsupported("attention without a batch")
    return _Heads(state, module, call).results()


class _Heads:
    """One call of :class:`torch.nn.MultiheadAttention`."""

    def __init__(
        self, state: Lowering, module: nn.MultiheadAttention, call: Call
    ) -> None:
        self.state, self.module, self.call = state, module, call
        self.b = state.builder
        state.bind("G C_h", (module.num_heads, module.head_dim))
        self.width = symbol("G") * symbol("C_h")

    def results(self) -> list[str]:
        """The output, and the shares, as far as they are used."""
        b, call = self.b, self.call
        query = self._sequence("query", "T", "G*C_h")
        is_own = call["key"] == call["query"]
        key = query if is_own else self._sequence("key", "S", self._size("k"))
        weights = self._projections()
        q, k = self._heads(query, "q", weights), self._heads(key, "k", weights)
        factor = torch.tensor(self.module.head_dim**-0.5)
        scale = self.state.weight("scale", (), factor, "constant")
        found = shares(b, q, k, scale, self._mask())
        results = []
        if call.used[0]:
            value = key
            if call["value"] != call["key"]:
                value = self._sequence("value", "S", self._size("v"))
            mixed = b.emit("matmul", found, self._heads(value, "v", weights))
            results.append(self._output(mixed))
        if any(call.used[1:]):
            average = call["average_attn_weights"]
            results.append(b.emit("mean", found, axis="co") if average else found)
        return results

    def _sequence(self, name: str, length: str, size: str) -> str:
        first = self.module.batch_first
        axes = f"N {length} {size}" if first else f"{length} N {size}"
        x = self.state.map(self.call[name], axes)
        return x if first else self.b.emit("transpose", x, axes=(1, 0, 2))

    def _size(self, name: str) -> str:
        """Symbols for the channels of keys ("k") or values ("v")."""
        sizes = {"k": self.module.kdim, "v": self.module.vdim}
        return "G*C_h" if sizes[name] == self.module.embed_dim else f"C_{name}"

    def _projections(self) -> list[Any]:
        """For queries, keys and values."""
        module: Any = self.module
        if module.in_proj_weight is not None:
            return list(module.in_proj_weight.chunk(3))
        return [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]

    def _heads(self, x: str, name: str, weights: list[Any]) -> str:
        """A linear layer, then [N, T, G C_h] as [N, G, T, C_h]."""
        b, state = self.b, self.state
        index = "qkv".index(name)
        n, length, c_in = b.types[x].shape
        w = state.weight(f"w_{name}", (c_in, self.width), weights[index].t())
        x = b.emit("matmul", x, w)
        if self.module.in_proj_bias is not None:
            bias = self.module.in_proj_bias.chunk(3)[index]
            x = b.emit("add", x, state.weight(f"b_{name}", (self.width,), bias))
        shape = (n, length, symbol("G"), symbol("C_h"))
        return b.emit("transpose", b.emit("reshape", x, shape=shape), axes=_HEADS)

    def _mask(self) -> str | None:
        """What is added to the scores of each head."""
        mask = self.call["attn_mask"]
        if mask is None:
            return None
        if len(mask.shape) != 2:
            raise Unsupported("attention with a mask for each head")
        length = symbol("T") if self.call["key"] == self.call["query"] else symbol("S")
        shape = (1, 1, symbol("T"), length)
        if isinstance(mask, Tensor):
            mask = _inverted(mask).reshape(1, 1, *mask.shape)
            return self.state.weight("mask", shape, mask, "constant")
        name = self.state.map(mask, f"T {length}")
        return self.b.emit("reshape", name, shape=shape)

    def _output(self, mixed: str) -> str:
        """Heads side by side again, then the last linear layer."""
        b, module = self.b, self.module
        n, _, length, _ = b.types[mixed].shape
        x = b.emit("transpose", mixed, axes=_HEADS)
        x = b.emit("reshape", x, shape=(n, length, self.width))
        shape = (self.width, self.width)
        w = self.state.weight("w_o", shape, module.out_proj.weight.t())
        x = b.emit("matmul", x, w)
        if module.out_proj.bias is not None:
            bias = self.state.weight("b_o", (self.width,), module.out_proj.bias)
            x = b.emit("add", x, bias)
        return x if module.batch_first else b.emit("transpose", x, axes=(1, 0, 2))


def _inverted(mask: Tensor) -> Tensor:
    """A mask that is added; true are here, unlike elsewhere, what is not seen."""
    return added(~mask if mask.dtype == torch.bool else mask)
