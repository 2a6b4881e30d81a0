"""Projections: where the weights of a changed operator come from.

A projection is an expression over the original operator's weights. It belongs to the
template, so it is printed, hashed and crossed over with it, and is run at every site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.ir.dim import Dim, Expr, substitute
from gos_fx.registry import Registry

PROJECTIONS: Registry[Callable[..., Tensor]] = Registry("projection")


@dataclass(frozen=True)
class Projection:
    """``function(*sources, **parameters)``; a source is a weight's name or nested."""

    function: str
    sources: tuple[Projection | str, ...]
    parameters: tuple[tuple[str, Dim | float], ...] = ()

    def __str__(self) -> str:
        arguments = [str(source) for source in self.sources]
        arguments += [f"{key}={value}" for key, value in self.parameters]
        return f"{self.function}({', '.join(arguments)})"

    @property
    def originals(self) -> frozenset[str]:
        """Names of the original weights that the expression reads."""
        found: frozenset[str] = frozenset()
        for source in self.sources:
            found |= {source} if isinstance(source, str) else source.originals
        return found


def projection(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Register ``function(*sources, **parameters) -> Tensor``."""
    PROJECTIONS.register(function.__name__, function)
    return function


def project(
    expression: Projection | str,
    originals: Mapping[str, Tensor],
    bindings: Mapping[str, int],
) -> Tensor:
    """Value of a projection at one site, detached from the originals.

    Raises:
        VerifyError: the expression reads a weight that this site does not have.
    """
    if isinstance(expression, str):
        if expression not in originals:
            raise VerifyError("the original operator has no such weight", expression)
        return originals[expression].detach()
    sources = [project(s, originals, bindings) for s in expression.sources]
    parameters: dict[str, Any] = {
        key: substitute(value, bindings) if isinstance(value, Expr) else value
        for key, value in expression.parameters
    }
    with torch.no_grad():
        value = PROJECTIONS[expression.function](*sources, **parameters)
    return value.contiguous().clone()
