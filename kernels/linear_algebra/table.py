"""The algorithm of each instruction."""

from __future__ import annotations

from collections.abc import Callable

from gos_fx.ir.graph import Node
from gos_fx.kernels.linear_algebra.cholesky import cholesky
from gos_fx.kernels.linear_algebra.code import Array, Code
from gos_fx.kernels.linear_algebra.eigh import eigh
from gos_fx.kernels.linear_algebra.householder import qr
from gos_fx.kernels.linear_algebra.lu import det, inverse
from gos_fx.kernels.linear_algebra.svd import (
    matrix_rank,
    norm_2,
    norm_nuclear,
    pinv,
    svd,
)

# Results of a matrix, which is overwritten. The flag is 1 where the matrix is bad; an
# algorithm may set it.
Algorithm = Callable[[Code, Array, Array], tuple[Array, ...]]

ALGORITHMS: dict[str, Algorithm] = {
    "cholesky": cholesky,
    "det": det,
    "eigh": eigh,
    "inverse": inverse,
    "matrix_rank": matrix_rank,
    "pinv": pinv,
    "qr": qr,
    "svd": svd,
}
_NORMS: dict[str, Algorithm] = {"2": norm_2, "nuclear": norm_nuclear}


def algorithm_of(node: Node) -> Algorithm | None:
    """None for instructions that are plain loops."""
    if node.opcode == "matrix_norm":
        return _NORMS.get(str(node.attr("ord")))
    return ALGORITHMS.get(node.opcode)
