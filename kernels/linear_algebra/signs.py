"""The sign of a vector that is known but for its sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from gos_fx.instructions.factorisations import LARGE
from gos_fx.kernels.linear_algebra.code import Code, real, sign


def first_sign(code: Code, extent: int, element: Callable[[Any], Any]) -> Any:
    """1 or -1, as the first element of a vector that is large."""
    largest = code.number("largest", real(0.0))
    with code.loop(0, extent) as i:
        largest[()] = tirx.max(largest[()], tirx.abs(element(i)))
    first = code.number("first", real(0.0))
    with code.down(extent) as i:
        is_large = tirx.abs(element(i)) >= real(LARGE) * largest[()]
        with code.when(is_large):
            first[()] = element(i)
    return code.keep("side", sign(first[()]))
