"""Tensors in tuples, lists and dicts."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a nested value in order; anything else is passed over."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for item in value.values() for t in tensors(item)]
    if isinstance(value, list | tuple):
        return [t for item in value for t in tensors(item)]
    return []


def largest_difference(a: Any, b: Any) -> float:
    """Largest |a - b| over all tensors, relative to the largest |b|.

    Infinite where the values differ in shape, number or finiteness.
    """
    found, wanted = tensors(a), tensors(b)
    if [t.shape for t in found] != [t.shape for t in wanted]:
        return float("inf")
    worst = 0.0
    for x, y in zip(found, wanted, strict=True):
        if not y.numel():
            continue
        x, y = x.detach().double(), y.detach().double()
        if not bool((x.isfinite() == y.isfinite()).all()):
            return float("inf")
        kept = y.isfinite()
        scale = y[kept].abs().max().clamp_min(1e-6) if bool(kept.any()) else 1.0
        if bool(kept.any()):
            worst = max(worst, float((x - y)[kept].abs().max() / scale))
    return worst
