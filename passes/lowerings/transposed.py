"""Transposed convolution: zeros between the elements, then a convolution."""

from __future__ import annotations

from torch import Tensor, nn

from gos_fx.passes.lower import Lowering, Shape, lowering
from gos_fx.passes.lowerings.convolution import correlated
from gos_fx.passes.lowerings.layout import (
    channels_first,
    check_batch,
    lift,
    pair,
    restore,
)

Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d


@lowering(nn.ConvTranspose1d, axes=channels_first)
def conv_transpose1d(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """On a map of one row."""
    assert isinstance(module, nn.ConvTranspose1d)
    check_batch(before, 3, "a convolution")
    weight = _flipped(module).unsqueeze(2)
    value = _transposed(state, module, lift(state, x), after, weight)
    return restore(state, value, 3)


@lowering(nn.ConvTranspose2d)
def conv_transpose2d(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    assert isinstance(module, nn.ConvTranspose2d)
    check_batch(before, 4, "a convolution")
    return _transposed(state, module, x, after, _flipped(module))


def _transposed(
    state: Lowering, module: Transposed, x: str, after: Shape, weight: Tensor
) -> str:
    """y = w' * (x with S - 1 zeros behind each element), padded by D (K - 1) - P.

    What the output size (output_padding included) asks for behind that is solved.
    """
    assert not isinstance(module.padding, str)
    rank = len(after)
    stride = pair(module.stride, rank)
    settings = zip(
        pair(module.dilation, rank),
        weight.shape[2:],
        pair(module.padding, rank, 0),
        strict=True,
    )
    state.bind("P_h P_w", [d * (k - 1) - p for d, k, p in settings])
    state.bind("S_h S_w", (1, 1))
    if stride != (1, 1):
        x = _spaced(state, x, stride, rank == 3)
    return correlated(state, module, x, after, weight)


def _spaced(state: Lowering, x: str, stride: tuple[int, int], one_row: bool) -> str:
    """Z_h rows and Z_w columns of zeros behind each element: axes of one element behind
    H and W are padded, then made one with them."""
    rows, columns = state.bind("Z_h Z_w", [step - 1 for step in stride])
    if one_row:
        rows = 0
    b = state.builder
    n, c, h, w = b.types[x].shape
    apart = b.emit("reshape", x, shape=(n, c * h, 1, w, 1))
    padded = b.emit("pad", apart, amounts=(0, 0, 0, 0, 0, rows, 0, 0, 0, columns))
    shape = (n, c, h * (1 + rows), w * (1 + columns))
    return b.emit("reshape", padded, shape=shape)


def _flipped(module: Transposed) -> Tensor:
    """[C_in, C_out/G, K...] -> [C_out, C_in/G, K...], each kernel turned around."""
    weight = module.weight.detach()
    c_in, per_group, *kernel = weight.shape
    groups = module.groups
    weight = weight.reshape(groups, c_in // groups, per_group, *kernel)
    weight = weight.transpose(1, 2).reshape(-1, c_in // groups, *kernel)
    return weight.flip(tuple(range(2, weight.dim())))
