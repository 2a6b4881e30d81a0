"""The instruction set: importing this package fills the table ``OPCODES``."""

from gos_fx.instructions import (
    activation,
    aggregation,
    bundles,
    convolution,
    elementwise,
    linalg,
    pooling,
    projections,
    recurrence,
    schedule,
    shape,
)

__all__ = [
    "activation",
    "aggregation",
    "bundles",
    "convolution",
    "elementwise",
    "linalg",
    "pooling",
    "projections",
    "recurrence",
    "schedule",
    "shape",
]
