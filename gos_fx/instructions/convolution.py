"""Cross-correlation: one map per pair of output and input channel."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from gos_fx.errors import VerifyError
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, product
from gos_fx.ir.opcode import instruction, windowed_extent
from gos_fx.ir.types import Type

# Dilations up to 3 are what the paper's Table 3 found on its devices.
_DILATIONS = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (3, 3))


def _window(x: Type, w: Type, *, dilation: tuple[Dim, Dim], **_: Any) -> Any:
    return (w.shape[2], w.shape[3]), dilation


def _shape(
    x: Type,
    w: Type,
    *,
    stride: tuple[Dim, Dim],
    dilation: tuple[Dim, Dim],
    groups: Dim,
    padding: tuple[int, int, int, int] | None = None,
) -> tuple[Dim, ...]:
    if x.rank != 4 or w.rank != 4 or w.role == "map" or x.role != "map":
        raise VerifyError(f"takes map[N, C, H, W] and weight[M, C/G, K, K], not {w}")
    channels, per_group = x.shape[1], w.shape[1]
    if isinstance(channels, int) and isinstance(groups, int):
        counts = (channels, w.shape[0])
        if any(isinstance(count, int) and count % groups for count in counts):
            raise VerifyError(f"{groups} groups do not divide the channels of {x}, {w}")
    if per_group != channels // groups:
        raise VerifyError(f"{w} does not fit {x} in {groups} groups")
    extents = []
    for i, name in enumerate("hw"):
        reach = dilation[i] * (w.shape[2 + i] - 1) + 1
        pads = None if padding is None else (padding[2 * i], padding[2 * i + 1])
        extents.append(windowed_extent(x.shape[2 + i], name, stride[i], pads, reach))
    return (x.shape[0], w.shape[0], per_group, *extents)


def _summed(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    /,
    *,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    padding: tuple[int, int, int, int],
) -> Tensor:
    """``sum(cross_correlation(x, w), axis="ci") + bias`` without the maps between."""
    top, bottom, left, right = padding
    if top == bottom and left == right and top >= 0 and left >= 0:
        return F.conv2d(x, w, bias, stride, (top, left), dilation, groups)
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, w, bias, stride, 0, dilation, groups)


@instruction(
    category="convolution",
    attributes={
        "stride": Attribute("dims", (1, 1)),
        "dilation": Attribute("dims", (1, 1), choices=_DILATIONS),
        "groups": Attribute("dim", 1),
        "padding": Attribute("dims", (0, 0, 0, 0), solved=True),
    },
    shape=_shape,
    flops=lambda out, x, w, **_: product((2, out.elements, w.shape[2], w.shape[3])),
    rtol=1e-4,
    window=_window,
    summed=_summed,
)
def cross_correlation(
    x: Tensor,
    w: Tensor,
    /,
    *,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    padding: tuple[int, int, int, int],
) -> Tensor:
    """y[n,o,c,i,j] = sum_kl x[n, g(o) C/G + c, s i + d k - p, s j + d l - p] w[o,c,k,l]

    Each output channel o sees the channels of its group g(o); the maps are summed by
    the aggregation that follows (Equation 1 of the paper).
    """
    channels = x.shape[1]
    outputs, per_group = w.shape[:2]
    top, bottom, left, right = padding
    x = F.pad(x, (left, right, top, bottom))
    # One depth-wise convolution with the maps ordered (input channel, output of its
    # group) gives each product once; reordering puts the output channel first.
    per = outputs // groups
    kernels = w.view(groups, per, per_group, *w.shape[2:]).transpose(1, 2)
    kernels = kernels.reshape(channels * per, 1, *w.shape[2:])
    maps = F.conv2d(x, kernels, stride=stride, dilation=dilation, groups=channels)
    maps = maps.view(-1, groups, per_group, per, *maps.shape[2:]).transpose(2, 3)
    return maps.reshape(-1, outputs, per_group, *maps.shape[4:])
