"""One lowering rule per module type; importing this package fills the table."""

from gos_fx.passes.lowerings import (
    activation,
    adaptive_pooling,
    attention,
    convolution,
    embedding,
    linear,
    normalization,
    padding,
    pooling,
    recurrent,
    shape,
    transposed,
    upsample,
)

__all__ = [
    "activation",
    "adaptive_pooling",
    "attention",
    "convolution",
    "embedding",
    "linear",
    "normalization",
    "padding",
    "pooling",
    "recurrent",
    "shape",
    "transposed",
    "upsample",
]
