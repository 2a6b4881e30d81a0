"""The schedules; ``stage`` takes what no other does."""

from __future__ import annotations

from gos_fx.kernels import te_kernels  # noqa: F401  (registers opcodes)
from gos_fx.kernels.schedules import (
    cross_correlation,
    linear_algebra,
    matmul,
    stage,
    window,
)

__all__ = ["cross_correlation", "linear_algebra", "matmul", "stage", "window"]
