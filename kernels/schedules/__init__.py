"""The schedules, in the order in which they are asked; ``stage`` takes everything."""

from __future__ import annotations

from gos_fx.kernels.schedules import cross_correlation, matmul, stage, window

__all__ = ["cross_correlation", "matmul", "stage", "window"]
