"""Borders and grids of feature maps: pad and resize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gos_fx.errors import VerifyError
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim
from gos_fx.ir.opcode import ANY_DTYPE, Operand, instruction
from gos_fx.ir.types import Type

# By mode: its name in ONNX.
_PADS = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


def _pad_shape(x: Type, *, amounts: tuple[Dim, ...], mode: str) -> tuple[Dim, ...]:
    if len(amounts) != 2 * x.rank:
        raise VerifyError(f"{x} takes {2 * x.rank} amounts, not {len(amounts)}")
    extents = []
    for extent, *pair in zip(x.shape, amounts[::2], amounts[1::2]):
        limit = {"reflect": extent - 1, "circular": extent}.get(mode)
        for amount in pair:
            known = isinstance(amount, int) and isinstance(limit, int)
            if known and amount > limit:  # type: ignore[operator]
                raise VerifyError(
                    f"{mode} of an axis of {extent} gives at most {limit}, not {amount}"
                )
        extents.append(extent + pair[0] + pair[1])
    return tuple(extents)


def _pad_onnx(b: Any, operands: Any, types: Any, result: Any, attributes: Any) -> Any:
    amounts = attributes["amounts"]
    pads = b.constant([*amounts[::2], *amounts[1::2]])
    return b.op("Pad", *operands, pads, mode=_PADS[attributes["mode"]])


def _border(x: Tensor, dim: int, before: int, after: int, mode: str) -> list[Tensor]:
    """The map with what its mode puts before and after it along one axis."""
    extent = x.shape[dim]
    if mode == "replicate":
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, extent - 1, 1)
        return [*[first] * before, x, *[last] * after]
    if mode == "circular":
        ends = x.narrow(dim, extent - before, before), x.narrow(dim, 0, after)
    else:
        ends = x.narrow(dim, 1, before), x.narrow(dim, extent - 1 - after, after)
        ends = ends[0].flip(dim), ends[1].flip(dim)
    return [*[ends[0]] * (before > 0), x, *[ends[1]] * (after > 0)]


@instruction(
    category="structure",
    attributes={
        "amounts": Attribute("dims", low=0),
        "mode": Attribute("name", "zeros", choices=tuple(_PADS)),
    },
    operands={"x": ANY_DTYPE},
    shape=_pad_shape,
    flops=lambda out, x, **_: 0,
    table1=False,
    onnx=_pad_onnx,
)
def pad(x: Tensor, /, *, amounts: tuple[int, ...], mode: str) -> Tensor:
    """y_i = x_(i - before), before and after of each axis in order; outside of x zero,
    the mirrored, the nearest element, or that of x repeated"""
    pairs = list(zip(amounts[::2], amounts[1::2]))
    if mode == "zeros":
        return F.pad(x, [n for pair in reversed(pairs) for n in pair])
    for dim, (before, after) in enumerate(pairs):
        if before or after:
            x = torch.cat(_border(x, dim, before, after, mode), dim)
    return x


def _resize_shape(
    x: Type, *, size: tuple[Dim, ...], mode: str = "nearest", align: bool = False
) -> tuple[Dim, ...]:
    if len(size) != 2:
        raise VerifyError(f"resize takes two sizes, not {len(size)}")
    if align and mode == "nearest":
        raise VerifyError("nearest has no corners to align", do="use bilinear")
    return (*x.shape[:2], *size)


def _resize_onnx(
    b: Any, operands: Any, types: Any, result: Any, attributes: Any
) -> Any:
    (x,), (of,), size = operands, types, attributes["size"]
    if attributes.get("mode", "nearest") == "nearest":
        # Resize divides by a rounded scale, which is off by one in places.
        for axis, (old, new) in enumerate(zip(of.shape[2:], size), start=2):
            rows = b.constant([i * old // new for i in range(new)])
            x = b.op("Gather", x, rows, axis=axis)
        return x
    place = "align_corners" if attributes.get("align") else "half_pixel"
    sizes = b.op("Concat", b.op("Shape", x, end=2), b.constant(list(size)), axis=0)
    return b.op(
        *("Resize", x, "", "", sizes),
        mode="linear",
        coordinate_transformation_mode=place,
    )


def _resize_flops(out: Type, x: Type, *, mode: str = "nearest", **_: Any) -> Dim:
    return 0 if mode == "nearest" else 7 * out.elements


@instruction(
    category="structure",
    attributes={
        "size": Attribute("dims", low=1),
        "mode": Attribute("name", choices=("nearest", "bilinear"), optional=True),
        "align": Attribute("flag", optional=True),
    },
    operands={"x": Operand(ranks=(4,))},
    shape=_resize_shape,
    flops=_resize_flops,
    table1=False,
    onnx=_resize_onnx,
)
def resize(
    x: Tensor, /, *, size: Sequence[int], mode: str = "nearest", align: bool = False
) -> Tensor:
    """y[.., i, j] = x[.., floor(i H / H'), floor(j W / W')]: nearest neighbour

    Bilinear: between the neighbours of (i + 1/2) H / H' - 1/2, inside x; or of
    i (H - 1) / (H' - 1) with ``align``, corner on corner.
    """
    if mode == "nearest":
        return F.interpolate(x, size=size, mode=mode)
    return F.interpolate(x, size=size, mode=mode, align_corners=align)
