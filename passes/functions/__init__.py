"""Rules of functions and methods between modules; importing this fills the table."""

from gos_fx.passes.functions import (
    arithmetic,
    moving,
    products,
    reductions,
    selecting,
)

__all__ = [
    "arithmetic",
    "moving",
    "products",
    "reductions",
    "selecting",
]
