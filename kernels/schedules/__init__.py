"""The schedules; ``stage`` takes what no other does."""

from __future__ import annotations

from gos_fx.kernels import (  # noqa: F401  (register opcodes)
    te_calculus,
    te_kernels,
    te_linear,
    te_moving,
)
from gos_fx.kernels.schedules import (
    cross_correlation,
    gradients,
    linear_algebra,
    matmul,
    scan,
    stage,
    window,
)

__all__ = [
    "cross_correlation",
    "gradients",
    "linear_algebra",
    "matmul",
    "scan",
    "stage",
    "window",
]
