"""The instruction set: importing this package fills the table ``OPCODES``."""

from gos_fx.instructions import (
    activation,
    aggregation,
    convolution,
    elementwise,
    linalg,
    pooling,
    projections,
    schedule,
    shape,
)

__all__ = [
    "activation",
    "aggregation",
    "convolution",
    "elementwise",
    "linalg",
    "pooling",
    "projections",
    "schedule",
    "shape",
]
