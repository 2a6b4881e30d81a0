"""Projections: exact where the rank suffices, the best of their form elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import gos_fx.instructions  # noqa: F401  (fills the table of projections)
from gos_fx.errors import VerifyError
from gos_fx.ir.dim import symbol
from gos_fx.ir.projection import PROJECTIONS, Projection, project

X = torch.randn(2, 6, 9, 8, generator=torch.Generator().manual_seed(5))
SHAPES = [(8, 6, 3, 3), (4, 6, 3, 5), (40, 6, 3, 1)]


def weight(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def run(name: str, *sources: Tensor, **parameters: int) -> Tensor:
    return PROJECTIONS[name](*sources, **parameters)


def narrowed(w: Tensor, rank: int) -> Tensor:
    y = F.conv2d(X, run("narrow", w, rank=rank))
    return F.conv2d(y, run("expand", w, rank=rank))


def squeezed(w: Tensor, rank: int) -> Tensor:
    y = F.conv2d(X, run("squeeze", w, rank=rank))
    return F.conv2d(y, run("widen", w, rank=rank))


def crossed(w: Tensor, rank: int) -> Tensor:
    y = F.conv2d(X, run("rows", w, rank=rank))
    return F.conv2d(y, run("columns", w, rank=rank))


# The pair, and the matrix of w that it factorises.
PAIRS: dict[str, tuple[Callable[[Tensor, int], Tensor], Callable[[Tensor], Tensor]]] = {
    "narrow": (narrowed, lambda w: w.flatten(1)),
    "squeeze": (squeezed, lambda w: w.transpose(0, 1).flatten(1)),
    "rows": (
        crossed,
        lambda w: w.permute(1, 2, 0, 3).reshape(w.shape[1] * w.shape[2], -1),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PAIRS)
def test_full_rank_is_exact(name: str, shape: tuple[int, ...]) -> None:
    apply, matrix = PAIRS[name]
    w = weight(shape)
    rank = min(matrix(w).shape)
    expected = F.conv2d(X, w)
    scale = float(expected.abs().max())
    torch.testing.assert_close(apply(w, rank), expected, rtol=0, atol=1e-5 * scale)
    # More maps than the weight has rank: the rest is zero, and nothing is lost.
    torch.testing.assert_close(apply(w, rank + 3), expected, rtol=0, atol=1e-5 * scale)


def product(name: str, w: Tensor, rank: int) -> Tensor:
    """The matrix that the two factors multiply to."""
    if name == "narrow":
        return run("expand", w, rank=rank).flatten(1) @ (
            run("narrow", w, rank=rank).flatten(1)
        )
    if name == "squeeze":
        return run("squeeze", w, rank=rank).flatten(1).T @ (
            run("widen", w, rank=rank).transpose(0, 1).flatten(1)
        )
    rows = run("rows", w, rank=rank)[..., 0]  # [rank, C_in, K_h]
    columns = run("columns", w, rank=rank)[:, :, 0]  # [C_out, rank, K_w]
    return rows.flatten(1).T @ columns.transpose(0, 1).flatten(1)


def best(matrix: Tensor, rank: int) -> np.ndarray:
    u, s, v = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    result: np.ndarray = (u[:, :rank] * s[:rank]) @ v[:rank]
    return result


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PAIRS)
def test_lower_rank_is_the_best_of_its_rank(
    name: str, shape: tuple[int, ...], rank: int
) -> None:
    w = weight(shape)
    found = product(name, w, rank).numpy()
    np.testing.assert_allclose(found, best(PAIRS[name][1](w), rank), atol=1e-4)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_factors_of_a_matrix(shape: tuple[int, int], rank: int) -> None:
    w = weight(shape)
    left, right = run("left_factor", w, rank=rank), run("right_factor", w, rank=rank)
    assert tuple(left.shape) == (shape[0], rank)
    assert tuple(right.shape) == (rank, shape[1])
    np.testing.assert_allclose((left @ right).numpy(), best(w, rank), atol=1e-5)
    # Both factors carry the same share of every singular value.
    torch.testing.assert_close(left.T @ left, right @ right.T, rtol=1e-3, atol=1e-4)


def test_a_matrix_of_lower_rank_gives_finite_factors() -> None:
    w = weight((6, 1)) @ weight((1, 6))
    left, right = run("left_factor", w, rank=4), run("right_factor", w, rank=4)
    assert bool(torch.isfinite(left).all() and torch.isfinite(right).all())
    torch.testing.assert_close(left @ right, w, rtol=0, atol=1e-5)
    zero = torch.zeros(4, 4)
    for name in ("left_factor", "right_factor"):
        assert bool(torch.isfinite(run(name, zero, rank=2)).all())


def test_separation_is_best_for_each_input_channel() -> None:
    w = weight((8, 6, 3, 3))
    filters, gains = run("depthwise", w), run("pointwise", w)
    assert tuple(filters.shape) == (6, 1, 3, 3) and tuple(gains.shape) == (8, 6, 1, 1)
    for c in range(6):
        found = gains[:, c, 0, 0, None] * filters[c].view(1, 9)
        np.testing.assert_allclose(
            found.numpy(), best(w[:, c].flatten(1), 1), atol=1e-5
        )


def test_separation_of_a_separable_weight_is_exact() -> None:
    w = weight((8, 6, 1, 1)) * torch.randn(1, 6, 3, 3)
    y = F.conv2d(X, run("depthwise", w), groups=6)
    expected = F.conv2d(X, w)
    torch.testing.assert_close(
        F.conv2d(y, run("pointwise", w)), expected, rtol=1e-4, atol=1e-4
    )


def test_blocks_are_those_of_the_diagonal() -> None:
    w = weight((8, 6, 3, 3))
    found = run("blocks", w, groups=2)
    assert torch.equal(found, torch.cat([w[:4, :3], w[4:, 3:]]))
    # A block-diagonal weight loses nothing.
    w[:4, 3:], w[4:, :3] = 0, 0
    torch.testing.assert_close(F.conv2d(X, found, groups=2), F.conv2d(X, w))


def test_centre_crops_and_pads() -> None:
    w = weight((4, 6, 3, 3))
    assert torch.equal(run("centre", w, height=1, width=3), w[:, :, 1:2])
    assert torch.equal(run("centre", w, height=1, width=1), w[:, :, 1:2, 1:2])
    wide = run("centre", w, height=5, width=3)
    assert torch.equal(wide[:, :, 1:4], w) and wide[:, :, 0].abs().sum() == 0
    # A larger kernel with the padding to match computes the same.
    torch.testing.assert_close(
        F.conv2d(X, wide, padding=(2, 1)), F.conv2d(X, w, padding=1)
    )


def test_ones_and_zeros() -> None:
    assert torch.equal(run("ones", size=3), torch.ones(3))
    assert torch.equal(run("zeros", size=3), torch.zeros(3))


def test_the_factor_of_a_batch_norm() -> None:
    norm = torch.nn.BatchNorm2d(6).eval()
    norm.weight.data, norm.running_var = weight((6,)), weight((6,)).abs() + 0.1
    gain = run("over_deviation", norm.weight.detach(), norm.running_var + norm.eps)
    expected = norm(X) - norm(torch.zeros(1, 6, 1, 1))
    torch.testing.assert_close(X * gain[:, None, None], expected)


def test_expressions_nest_and_read_the_sizes_of_a_site() -> None:
    rank = symbol("C_in") // 2
    inner = Projection("narrow", ("w",), (("rank", rank),))
    outer = Projection("centre", (inner,), (("height", 1), ("width", 1)))
    w = weight((8, 6, 3, 3)).requires_grad_()
    found = project(outer, {"w": w}, {"C_in": 6})
    assert torch.equal(found, run("narrow", w.detach(), rank=3)[:, :, 1:2, 1:2])
    assert not found.requires_grad and outer.originals == {"w"}
    assert str(outer) == "centre(narrow(w, rank=C_in // 2), height=1, width=1)"
    with pytest.raises(VerifyError, match="no such weight"):
        project(outer, {"u": w}, {"C_in": 6})


def test_a_weight_is_never_shared_with_the_original() -> None:
    w = weight((4, 6, 1, 1))
    same = project(
        Projection("centre", ("w",), (("height", 1), ("width", 1))), {"w": w}, {}
    )
    same.add_(1)
    assert not torch.equal(same, w)
