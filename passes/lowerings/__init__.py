"""One lowering rule per module type; importing this package fills the table."""

from gos_fx.passes.lowerings import (
    activation,
    convolution,
    linear,
    normalization,
    pooling,
    shape,
)

__all__ = ["activation", "convolution", "linear", "normalization", "pooling", "shape"]
