"""What instructions compute, written in numpy from their equations alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def channels(b: Array) -> Array:
    return b[:, None, None]


def windows(x: Array, kernel: Any, stride: Any, padding: Any, fill: float) -> Array:
    """[N, C, H, W] -> [N, C, H', W', K_h, K_w]."""
    top, bottom, left, right = padding
    pads = ((0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (left, right))
    x = np.pad(x, pads, constant_values=fill)
    x = x[:, :, max(-top, 0) : x.shape[2] + min(bottom, 0)]
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1]]


def correlate(
    x: Array, w: Array, *, stride: Any, dilation: Any, groups: int, padding: Any
) -> Array:
    (outputs, per_group, kh, kw), (dh, dw) = w.shape, dilation
    reach = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    view = windows(x, reach, stride, padding, 0.0)[..., ::dh, ::dw]
    maps = []
    for o in range(outputs):
        first = o // (outputs // groups) * per_group
        mine = view[:, first : first + per_group]
        maps.append(np.einsum("ncijkl,ckl->ncij", mine, w[o]))
    return np.stack(maps, 1)


def largest(x: Array, *, kernel: Any, stride: Any, padding: Any) -> Array:
    return windows(x, kernel, stride, padding, -np.inf).max((-1, -2))


def average(
    x: Array, *, kernel: Any, stride: Any, include_pad: bool, padding: Any
) -> Array:
    total = windows(x, kernel, stride, padding, 0.0).sum((-1, -2))
    if include_pad:
        return total / math.prod(kernel)
    inside = windows(np.ones_like(x), kernel, stride, padding, 0.0)
    return total / inside.sum((-1, -2))


def each(function: Callable[..., Any]) -> Callable[..., Array]:
    """A function of one matrix for each of a batch; later operands may have none."""

    def batched(first: Array, *others: Array, **attributes: Any) -> Array:
        batch = first.shape[:-2]
        found = []
        for index in np.ndindex(batch):
            mine = [o[index] if o.ndim > 2 or batch == () else o for o in others]
            found.append(function(first[index], *mine, **attributes))
        return np.array(found).reshape(batch + np.shape(found[0]))

    return batched


def determinant(x: Array) -> float:
    """Leibniz: a sum over the permutations."""
    n = len(x)
    total = 0.0
    for p in permutations(range(n)):
        swaps = sum(p[i] > p[j] for i in range(n) for j in range(i + 1, n))
        total += (-1) ** swaps * math.prod(x[i, p[i]] for i in range(n))
    return total


def inverted(x: Array) -> Array:
    """Cramer: cofactors by the determinant."""
    n = len(x)
    minors = [
        [
            (-1) ** (i + j) * determinant(np.delete(np.delete(x, j, axis=0), i, axis=1))
            for j in range(n)
        ]
        for i in range(n)
    ]
    return np.array(minors) / determinant(x)


def lower(x: Array) -> Array:
    """The symmetric matrix whose lower triangle this is."""
    return np.tril(x) + np.swapaxes(np.tril(x, -1), -1, -2)


def normalised(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def differences(x: Array, axis: int) -> Array:
    if x.shape[axis] == 1:
        return np.zeros_like(x)
    return np.gradient(x, axis=axis)


def density(x: Array, mean: Array, scale: Array, *, distribution: str) -> Array:
    z = (x - mean) / scale
    if distribution == "normal":
        return np.sqrt(np.exp(-z * z) / (2 * np.pi)) / scale
    if distribution == "laplace":
        return np.minimum(np.exp(z), np.exp(-z)) / (2 * scale)
    return 1 / (4 * scale * np.cosh(z / 2) ** 2)


def nearest(x: Array, *, size: tuple[int, int]) -> Array:
    rows = [i * x.shape[2] // size[0] for i in range(size[0])]
    columns = [j * x.shape[3] // size[1] for j in range(size[1])]
    return x[:, :, rows][:, :, :, columns]


def bilinear(x: Array, *, size: tuple[int, int], mode: str, align: bool) -> Array:
    """Linear interpolation along one axis, then along the other."""
    for axis, new in zip((2, 3), size, strict=True):
        old = x.shape[axis]
        at = (np.arange(new) + 0.5) * old / new - 0.5
        if align:
            at = np.arange(new) * (old - 1) / max(new - 1, 1)
        known = np.arange(old)
        x = np.apply_along_axis(
            lambda row, a, k: np.interp(a, k, row), axis, x, at, known
        )
    return x


def padded(x: Array, *, amounts: tuple[int, ...], mode: str) -> Array:
    modes = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    return np.pad(x, pairs, mode=modes.get(mode, mode))  # type: ignore[call-overload]


def sliced(x: Array, *, axis: int, start: int, size: int, step: int) -> Array:
    return x.take([start + step * i for i in range(size)], axis)


def recurrence(x: Array, h: Array, u: Array, v: Array, *, reverse: bool) -> Array:
    """h[t] = tanh(x[t] u + h[t - 1] v): every h."""
    steps = range(x.shape[1])
    found: dict[int, Array] = {}
    for t in reversed(steps) if reverse else steps:
        h = np.tanh(x[:, t] @ u + h @ v)
        found[t] = h
    return np.stack([found[t] for t in steps], 1)


def signed(vectors: Array) -> Array:
    """1 or -1 for each column: the sign of its first element of at least 0.3 times the
    largest."""
    signs = np.ones((*vectors.shape[:-2], 1, vectors.shape[-1]))
    for index in np.ndindex(*vectors.shape[:-2], vectors.shape[-1]):
        column = vectors[(*index[:-1], slice(None), index[-1])]
        large = column[np.abs(column) >= 0.3 * np.abs(column).max()]
        signs[(*index[:-1], 0, index[-1])] = np.sign(large[0])
    return signs


def eigenvectors(x: Array) -> tuple[Array, Array]:
    values, vectors = np.linalg.eigh((x + np.swapaxes(x, -1, -2)) / 2)
    return values, vectors * signed(vectors)


def singular(x: Array) -> tuple[Array, Array, Array]:
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return u * signed(u), s, vh * np.swapaxes(signed(u), -1, -2)
