"""The instruction set: importing this package fills the table ``OPCODES``."""

from gos_fx.instructions import (
    activation,
    aggregation,
    bundles,
    calculus,
    convolution,
    elementwise,
    factorisations,
    linalg,
    norms,
    pooling,
    probability,
    projections,
    recurrence,
    resampling,
    schedule,
    shape,
)

__all__ = [
    "activation",
    "aggregation",
    "bundles",
    "calculus",
    "convolution",
    "elementwise",
    "factorisations",
    "linalg",
    "norms",
    "pooling",
    "probability",
    "projections",
    "recurrence",
    "resampling",
    "schedule",
    "shape",
]
