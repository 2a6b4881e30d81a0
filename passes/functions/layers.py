"""Functions that compute what a layer does: lowered like the layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.passes.modularize import LAYERS, Rule, layer_rule, weighted

# Known to the lowering alone: the code generator takes these functions as they are.
_FUNCTIONS: dict[Any, Rule] = {}


def layer_of(target: Any) -> Rule | None:
    """The rule that makes the layer of a function or method."""
    return LAYERS.get(target, _FUNCTIONS.get(target))


def _unary(kind: type[nn.Module], *functions: Any) -> None:
    """Functions with the settings of the layer, and ``inplace``."""

    @layer_rule(*functions, table=_FUNCTIONS)
    def rule(
        rank: int, *settings: Any, inplace: bool = False, **named: Any
    ) -> nn.Module | None:
        return None if inplace else kind(*settings, **named)


_unary(nn.ReLU6, F.relu6)
_unary(nn.Hardswish, F.hardswish)
_unary(nn.Hardsigmoid, F.hardsigmoid)
_unary(nn.Hardtanh, F.hardtanh)
_unary(nn.SiLU, F.silu)
_unary(nn.GELU, F.gelu)
_unary(nn.ELU, F.elu)


@layer_rule(F.interpolate, table=_FUNCTIONS)
def _interpolate(
    rank: int,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> nn.Module | None:
    if antialias:
        return None
    return nn.Upsample(size, scale_factor, mode, align_corners, recompute_scale_factor)


@layer_rule(F.softmax, torch.softmax, "softmax", table=_FUNCTIONS)
def _softmax(
    rank: int, dim: int | None = None, _stacklevel: int = 3, dtype: None = None
) -> nn.Module | None:
    return None if dim is None or dtype is not None else nn.Softmax(dim)


@layer_rule(F.layer_norm, table=_FUNCTIONS)
def _layer_norm(
    rank: int,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> nn.Module:
    layer = nn.LayerNorm(
        list(normalized_shape), eps, weight is not None, bias is not None
    )
    return weighted(layer, weight=weight, bias=bias)


@layer_rule(F.group_norm, table=_FUNCTIONS)
def _group_norm(
    rank: int,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> nn.Module | None:
    if weight is None or bias is None:
        return None
    layer = nn.GroupNorm(num_groups, len(weight), eps)
    return weighted(layer, weight=weight, bias=bias)


@layer_rule(F.prelu, table=_FUNCTIONS)
def _prelu(rank: int, weight: Tensor) -> nn.Module:
    return weighted(nn.PReLU(weight.numel()), weight=weight)


@layer_rule(F.embedding, table=_FUNCTIONS)
def _embedding(rank: int, weight: Tensor, padding_idx: int | None = None) -> nn.Module:
    return weighted(nn.Embedding(*weight.shape), weight=weight)


@layer_rule(F.pad, table=_FUNCTIONS)
def _pad(
    rank: int, pad: Any, mode: str = "constant", value: float | None = None
) -> nn.Module | None:
    kinds: Any = {
        ("constant", 2): nn.ZeroPad1d,
        ("constant", 4): nn.ZeroPad2d,
        ("reflect", 2): nn.ReflectionPad1d,
        ("reflect", 4): nn.ReflectionPad2d,
        ("replicate", 2): nn.ReplicationPad1d,
        ("replicate", 4): nn.ReplicationPad2d,
        ("circular", 2): nn.CircularPad1d,
        ("circular", 4): nn.CircularPad2d,
    }
    kind = kinds.get((mode, len(pad)))
    fits = rank == 2 + len(pad) // 2
    return kind(tuple(pad)) if kind and fits and not value else None
