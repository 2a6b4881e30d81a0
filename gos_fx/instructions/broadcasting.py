"""How a rank-1 weight meets a feature map: along its channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gos_fx.ir.types import channel_axis


def along_channels(x: Tensor, like: Tensor) -> Tensor:
    """A rank-1 ``x`` viewed so that it broadcasts over the channels of ``like``."""
    if x.dim() != 1 or like.dim() < 2 or channel_axis(like.dim()) == like.dim() - 1:
        return x
    shape = [1] * like.dim()
    shape[channel_axis(like.dim())] = x.shape[0]
    return x.view(shape)


def aligned(*values: Any) -> list[Any]:
    """The values, each viewed so that torch broadcasts it to the largest; numbers as
    they are."""
    tensors = [v for v in values if not isinstance(v, float)]
    largest = max(tensors, key=lambda v: v.dim())
    return [v if isinstance(v, float) else along_channels(v, largest) for v in values]
