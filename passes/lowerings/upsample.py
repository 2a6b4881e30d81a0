"""Upsampling: a resize, or a matrix along each axis where torch's grid is another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Lowering, Shape, lowering
from gos_fx.passes.lowerings.layout import channels_first, lift, restore
from gos_fx.passes.lowerings.resampling import Along, resampled

# The ranks of the maps that torch resamples in each mode.
_RANKS = {
    "nearest": (3, 4),
    "nearest-exact": (3, 4),
    "linear": (3,),
    "bilinear": (4,),
    "bicubic": (4,),
}
# Attributes of the instruction, for the modes that it has.
_MODES: dict[str, dict[str, Any]] = {
    "nearest": {},
    "linear": {"mode": "bilinear"},
    "bilinear": {"mode": "bilinear"},
}


@lowering(nn.Upsample, axes=channels_first)
@lowering(nn.UpsamplingNearest2d)
@lowering(nn.UpsamplingBilinear2d)
def upsample(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """With a scale that gives no whole size, torch's grid is that of the scale."""
    assert isinstance(module, nn.Upsample)
    rank, mode = len(before), module.mode
    if rank not in _RANKS.get(mode, ()):
        raise Unsupported(f"upsampling mode {mode} of a map of rank {rank}")
    x, scales = lift(state, x), _scales(module, before, after)
    if mode in _MODES and not any(scales):
        size = state.bind("H_out W_out", (1, *after[2:])[-2:])
        attributes = dict(_MODES[mode], size=(1, size[1]) if rank == 3 else size)
        if module.align_corners:
            attributes["align"] = True
        value = state.builder.emit("resize", x, **attributes)
    else:
        along = [_along(module, scale) for scale in scales]
        value = resampled(state, x, after, *along)
    return restore(state, value, rank)


def _scales(module: nn.Upsample, before: Shape, after: Shape) -> list[float | None]:
    """Of each axis; None where the sizes lead to the same grid."""
    sizes = list(zip(before[2:], after[2:], strict=True))
    scale = module.scale_factor
    if scale is None or module.recompute_scale_factor or module.align_corners:
        return [None] * len(sizes)
    factors = scale if isinstance(scale, Sequence) else [scale] * len(sizes)
    return [
        None if size * factor == result else factor
        for (size, result), factor in zip(sizes, factors, strict=True)
    ]


def _along(module: nn.Upsample, scale: float | None) -> Along:
    """Torch's resampling of the last axis of [1, C, W]."""

    def along(x: Tensor, size: int) -> Tensor:
        by: dict[str, Any] = (
            {"size": (1, size)} if scale is None else {"scale_factor": (1.0, scale)}
        )
        return F.interpolate(
            x.unsqueeze(2),
            mode="bilinear" if module.mode == "linear" else module.mode,
            align_corners=module.align_corners,
            **by,
        ).squeeze(2)

    return along
