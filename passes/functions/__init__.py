"""Rules of functions and methods between modules; importing this fills the table."""

from gos_fx.passes.functions import (
    arithmetic,
    layers,
    moving,
    products,
    reductions,
    selecting,
)

__all__ = [
    "arithmetic",
    "layers",
    "moving",
    "products",
    "reductions",
    "selecting",
]
