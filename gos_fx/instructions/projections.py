"""How old weights become new ones: w is [C_out, C_in/G, K_h, K_w] or a matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gos_fx.ir.projection import projection


def _balanced(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """``(l, r)`` with l r the best rank-``rank`` approximation (Eckart-Young).

    The singular values are shared between both factors, so that both train alike. The
    eigenvectors of the smaller Gram matrix give the same factors as the SVD of the
    long matrix, much sooner; float64 keeps the squared condition harmless.
    """
    m = matrix.double()
    wide = m.shape[0] <= m.shape[1]
    gram = m @ m.T if wide else m.T @ m
    values, vectors = torch.linalg.eigh(gram)
    basis = vectors[:, -rank:].flip(-1)
    scale = values[-rank:].flip(-1).clamp_min(1e-24) ** 0.25  # sqrt of singular value
    if wide:
        left, right = basis * scale, (basis / scale).T @ m
    else:
        left, right = m @ (basis / scale), (basis * scale).T
    missing = rank - left.shape[1]
    if missing > 0:
        left, right = F.pad(left, (0, missing)), F.pad(right, (0, 0, 0, missing))
    return left.to(matrix.dtype), right.to(matrix.dtype)


@projection
def narrow(w: Tensor, *, rank: int) -> Tensor:
    """First half of K x K into ``rank`` maps, then 1 x 1: [rank, C_in/G, K_h, K_w]"""
    return _balanced(w.flatten(1), rank)[1].view(rank, *w.shape[1:])


@projection
def expand(w: Tensor, *, rank: int) -> Tensor:
    """Second half of :func:`narrow`: [C_out, rank, 1, 1]"""
    return _balanced(w.flatten(1), rank)[0][..., None, None]


@projection
def squeeze(w: Tensor, *, rank: int) -> Tensor:
    """First half of 1 x 1 into ``rank`` maps, then K x K: [rank, C_in/G, 1, 1]"""
    return _balanced(w.transpose(0, 1).flatten(1), rank)[0].T[..., None, None]


@projection
def widen(w: Tensor, *, rank: int) -> Tensor:
    """Second half of :func:`squeeze`: [C_out, rank, K_h, K_w]"""
    right = _balanced(w.transpose(0, 1).flatten(1), rank)[1]
    return right.view(rank, w.shape[0], *w.shape[2:]).transpose(0, 1)


def _rows_columns(w: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    outputs, inputs, height, width = w.shape
    matrix = w.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)
    left, right = _balanced(matrix, rank)
    rows = left.view(inputs, height, rank).permute(2, 0, 1)[..., None]
    columns = right.view(rank, outputs, width).transpose(0, 1)[:, :, None]
    return rows, columns


@projection
def rows(w: Tensor, *, rank: int) -> Tensor:
    """First half of K x 1 into ``rank`` maps, then 1 x K: [rank, C_in/G, K_h, 1]"""
    return _rows_columns(w, rank)[0]


@projection
def columns(w: Tensor, *, rank: int) -> Tensor:
    """Second half of :func:`rows`: [C_out, rank, 1, K_w]"""
    return _rows_columns(w, rank)[1]


def _rank_one_filters(w: Tensor) -> tuple[Tensor, Tensor]:
    """For each input channel the best filter f and gains g: w[o, c] ~ g[o, c] f[c]."""
    matrices = w.transpose(0, 1).flatten(2).double()  # [C_in, C_out, K_h K_w]
    _, vectors = torch.linalg.eigh(matrices.transpose(1, 2) @ matrices)
    filters = vectors[..., -1]
    gains = (matrices @ filters[..., None]).squeeze(-1)
    return filters.to(w.dtype), gains.T.to(w.dtype)


@projection
def depthwise(w: Tensor) -> Tensor:
    """The filter of each input channel that explains w best: [C_in, 1, K_h, K_w]"""
    filters, _ = _rank_one_filters(w)
    return filters.view(-1, 1, *w.shape[2:])


@projection
def pointwise(w: Tensor) -> Tensor:
    """What :func:`depthwise` leaves to a 1 x 1 convolution: [C_out, C_in, 1, 1]"""
    _, gains = _rank_one_filters(w)
    return gains[..., None, None]


@projection
def blocks(w: Tensor, *, groups: int) -> Tensor:
    """The diagonal blocks of the channel matrix: [C_out, C_in/groups, K_h, K_w]"""
    outputs, inputs = w.shape[0] // groups, w.shape[1] // groups
    w = w[: outputs * groups, : inputs * groups]
    pairs = w.view(groups, outputs, groups, inputs, *w.shape[2:])
    index = torch.arange(groups)
    return pairs[index, :, index].reshape(groups * outputs, inputs, *w.shape[2:])


@projection
def centre(w: Tensor, *, height: int, width: int) -> Tensor:
    """The kernel cropped or zero-padded about its centre: [.., .., height, width]"""
    pads: list[int] = []
    for wanted, have in ((width, w.shape[3]), (height, w.shape[2])):
        before = (wanted - have) // 2
        pads += [before, wanted - have - before]
    return F.pad(w, pads)


@projection
def left_factor(w: Tensor, *, rank: int) -> Tensor:
    """w ~ l r of a matrix: l [rows, rank]"""
    return _balanced(w, rank)[0]


@projection
def right_factor(w: Tensor, *, rank: int) -> Tensor:
    """w ~ l r of a matrix: r [rank, columns]"""
    return _balanced(w, rank)[1]


@projection
def ones(*, size: int) -> Tensor:
    """[1, 1, ...]: what leaves a product or a mean as it was"""
    return torch.ones(size)


@projection
def zeros(*, size: int) -> Tensor:
    """[0, 0, ...]: what leaves a sum as it was"""
    return torch.zeros(size)


@projection
def over_deviation(gain: Tensor, variance: Tensor) -> Tensor:
    """g / sqrt(v): the factor of a batch norm"""
    return gain / variance.sqrt()
