"""Forwards of torch's transformers that torch.fx can trace.

Torch's own look at the tensors to choose between kernels of their own and the layers
that they are made of. These are the layers alone, which compute the same. Names of
parameters and layers are torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.errors import Unsupported

_FORWARDS: dict[Any, Callable[..., Any]] = {}


def plain_forward(module: nn.Module) -> Callable[..., Any] | None:
    """What to trace in the place of a module's forward, ``self`` first; also of
    classes that inherit it. None where that is its own, or hooks belong to it."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return None if hooks else _FORWARDS.get(type(module).forward)


def _instead_of(kind: type[nn.Module]) -> Callable[..., Any]:
    def declare(forward: Callable[..., Any]) -> Callable[..., Any]:
        _FORWARDS[kind.forward] = forward
        return forward

    return declare


@_instead_of(nn.Transformer)
def _transformer(
    self: Any,
    src: Tensor,
    tgt: Tensor,
    src_mask: Tensor | None = None,
    tgt_mask: Tensor | None = None,
    memory_mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    tgt_key_padding_mask: Tensor | None = None,
    memory_key_padding_mask: Tensor | None = None,
    src_is_causal: bool | None = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Tensor:
    memory = self.encoder(
        src,
        mask=src_mask,
        src_key_padding_mask=src_key_padding_mask,
        is_causal=src_is_causal,
    )
    result: Tensor = self.decoder(
        tgt,
        memory,
        tgt_mask=tgt_mask,
        memory_mask=memory_mask,
        tgt_key_padding_mask=tgt_key_padding_mask,
        memory_key_padding_mask=memory_key_padding_mask,
        tgt_is_causal=tgt_is_causal,
        memory_is_causal=memory_is_causal,
    )
    return result


@_instead_of(nn.TransformerEncoder)
def _encoder(
    self: Any,
    src: Tensor,
    mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool | None = None,
) -> Tensor:
    """Raises Unsupported where torch would write zeros for what is padded."""
    if src_key_padding_mask is not None and mask is None and self.use_nested_tensor:
        raise Unsupported("a mask of padded keys makes it skip what is padded")
    for layer in self.layers:
        src = layer(
            src,
            src_mask=mask,
            src_key_padding_mask=src_key_padding_mask,
            is_causal=_is_causal(mask, is_causal),
        )
    return src if self.norm is None else self.norm(src)  # type: ignore[no-any-return]


@_instead_of(nn.TransformerDecoder)
def _decoder(
    self: Any,
    tgt: Tensor,
    memory: Tensor,
    tgt_mask: Tensor | None = None,
    memory_mask: Tensor | None = None,
    tgt_key_padding_mask: Tensor | None = None,
    memory_key_padding_mask: Tensor | None = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Tensor:
    for layer in self.layers:
        tgt = layer(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=_is_causal(tgt_mask, tgt_is_causal),
            memory_is_causal=memory_is_causal,
        )
    return tgt if self.norm is None else self.norm(tgt)  # type: ignore[no-any-return]


@_instead_of(nn.TransformerEncoderLayer)
def _encoder_layer(
    self: Any,
    src: Tensor,
    src_mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    _check_activation(self)
    _check_hint(src_mask, is_causal)
    masks = src_mask, src_key_padding_mask
    if self.norm_first:
        x = src + self._sa_block(self.norm1(src), *masks)
        return x + self._ff_block(self.norm2(x))  # type: ignore[no-any-return]
    x = self.norm1(src + self._sa_block(src, *masks))
    return self.norm2(x + self._ff_block(x))  # type: ignore[no-any-return]


@_instead_of(nn.TransformerDecoderLayer)
def _decoder_layer(
    self: Any,
    tgt: Tensor,
    memory: Tensor,
    tgt_mask: Tensor | None = None,
    memory_mask: Tensor | None = None,
    tgt_key_padding_mask: Tensor | None = None,
    memory_key_padding_mask: Tensor | None = None,
    tgt_is_causal: bool = False,
    memory_is_causal: bool = False,
) -> Tensor:
    """Torch's own, which attends with the masks rather than with the hints."""
    _check_hint(tgt_mask, tgt_is_causal)
    _check_hint(memory_mask, memory_is_causal)
    masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
    return nn.TransformerDecoderLayer.forward(self, tgt, memory, *masks)


def _check_activation(layer: Any) -> None:
    """Torch's kernel goes by what an activation was when the layer was made, and takes
    every GELU for the exact one."""
    given = layer.activation
    is_gelu = isinstance(given, nn.GELU) and given.approximate == "none"
    known = {
        1: given is F.relu or isinstance(given, nn.ReLU),
        2: given is F.gelu or is_gelu,
    }
    if not known.get(layer.activation_relu_or_gelu, True):
        raise Unsupported("torch's kernel for it has another activation")


def _is_causal(mask: Tensor | None, hint: bool | None) -> bool:
    """The hint for the layers; if there is none, whether the mask is causal, which of
    one that is computed is not known."""
    if hint is None:
        return isinstance(mask, Tensor) and mask.dim() == 2 and _hides_later(mask)
    return hint


def _check_hint(mask: Tensor | None, is_causal: bool) -> None:
    """Torch takes the hint or the mask, depending on the kernel: both must be one."""
    if is_causal and isinstance(mask, Tensor) and not _hides_later(mask):
        raise Unsupported("is_causal with a mask that is not causal")


def _hides_later(mask: Tensor) -> bool:
    """Whether it is minus infinity, or true, where a key comes later, and else zero."""
    hidden = float("-inf") if mask.is_floating_point() else True
    return torch.equal(mask, torch.full_like(mask, hidden).triu(1))
