"""Modules that only move values, or do not even that."""

from __future__ import annotations

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.ir.dim import product
from gos_fx.passes.lower import MAP_SYMBOLS, Lowering, Shape, lowering
from gos_fx.passes.lowerings.layout import any_rank


def _nothing(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """What does nothing in eval mode has a graph without instructions."""
    return x


for _kind in (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
):
    lowering(_kind, activation=True, axes=any_rank)(_nothing)


@lowering(nn.Flatten, axes=any_rank)
def flatten(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """For instance [N, C, H, W] -> [N, C H W]"""
    assert isinstance(module, nn.Flatten)
    shape, rank = state.builder.types[x].shape, len(before)
    first, last = module.start_dim % rank, module.end_dim % rank
    middle = product(shape[first : last + 1])
    return state.builder.emit(
        "reshape", x, shape=(*shape[:first], middle, *shape[last + 1 :])
    )


def _unflattened(state: Lowering, module: nn.Module, shape: Shape) -> str:
    """The axis as a product of the axes that it is taken apart into."""
    assert isinstance(module, nn.Unflatten)
    if not isinstance(module.dim, int) or not module.dim % len(shape):
        raise Unsupported("Unflatten of the batch or of a named axis")
    sizes = [int(size) for size in module.unflattened_size]
    dim = module.dim % len(shape)
    known = [size for size in sizes if size != -1]
    rest = shape[dim] // int(product(known))  # type: ignore[arg-type]
    names = [f"A_{i}" for i in range(1, len(sizes) + 1)]
    state.bind(" ".join(names), [rest if size == -1 else size for size in sizes])
    if len(shape) not in MAP_SYMBOLS:
        raise Unsupported(f"a feature map of rank {len(shape)}")
    axes = list(MAP_SYMBOLS[len(shape)])
    axes[dim] = "*".join(names)
    return " ".join(axes)


@lowering(nn.Unflatten, axes=_unflattened)
def unflatten(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    assert isinstance(module, nn.Unflatten) and isinstance(module.dim, int)
    shape, dim = state.builder.types[x].shape, module.dim % len(before)
    sizes = after[dim : dim + len(module.unflattened_size)]
    names = " ".join(f"A_{i}" for i in range(1, len(sizes) + 1))
    parts = state.bind(names, sizes)
    return state.builder.emit(
        "reshape", x, shape=(*shape[:dim], *parts, *shape[dim + 1 :])
    )


def _shuffled(state: Lowering, module: nn.Module, shape: Shape) -> str:
    assert isinstance(module, nn.PixelShuffle)
    state.bind("R C_out", (module.upscale_factor, shape[1] // module.upscale_factor**2))
    return "N C_out*R*R H W"


@lowering(nn.PixelShuffle, axes=_shuffled)
def pixel_shuffle(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """y[.., c, h r + i, w r + j] = x[.., (c r + i) r + j, h, w]"""
    assert isinstance(module, nn.PixelShuffle)
    factor, channels = state.bind("R C_out", (module.upscale_factor, after[1]))
    b = state.builder
    n, _, h, w = b.types[x].shape
    value = b.emit("reshape", x, shape=(n, channels, factor, factor, h, w))
    value = b.emit("transpose", value, axes=(0, 1, 4, 2, 5, 3))
    return b.emit("reshape", value, shape=(n, channels, h * factor, w * factor))
