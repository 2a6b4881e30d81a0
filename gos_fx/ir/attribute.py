"""Hyper-parameters of instructions: kinds of values and what is legal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gos_fx.ir.dim import Expr


@dataclass(frozen=True)
class Attribute:
    """A hyper-parameter of an instruction (the paper's constant nodes).

    Attributes:
        kind: one of :data:`KINDS`.
        default: what a builder fills in; ``dims`` have as many entries as it has.
        choices: values that a mutation may draw (empty: only edits set it); of a
            ``name`` all that are legal.
        solved: absent in templates and filled in by ``instantiate``.
        optional: absent unless it is set, and then not printed.
        low, high: the legal range of its numbers, ends included.
    """

    kind: str
    default: Any = None
    choices: tuple[Any, ...] = ()
    solved: bool = False
    optional: bool = False
    low: float | None = None
    high: float | None = None

    def refuses(self, value: Any) -> str:
        """Why a value is not legal; empty where it is."""
        if not KINDS[self.kind](value):
            return f"is not a {self.kind}"
        fixed = isinstance(self.default, tuple) and not self.optional
        if fixed and len(value) != len(self.default):
            return f"has not {len(self.default)} entries"
        if self.kind == "name" and self.choices and value not in self.choices:
            return f"is none of {', '.join(self.choices)}"
        for number in _numbers(value):
            if self.low is not None and number < self.low:
                return f"is below {self.low:g}"
            if self.high is not None and number > self.high:
                return f"is above {self.high:g}"
        return ""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_dim(value: Any) -> bool:
    return isinstance(value, int | Expr) and not isinstance(value, bool)


def _is_dims(value: Any) -> bool:
    return isinstance(value, tuple) and all(_is_dim(d) for d in value)


def _is_dilation(value: Any) -> bool:
    """(d_h, d_w); an entry may be the gaps between neighbouring rows or columns."""
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(_is_dim(d) or (_is_dims(d) and bool(d)) for d in value)
    )


def _is_graph(value: Any) -> bool:
    from gos_fx.ir.graph import Graph

    return isinstance(value, Graph)


KINDS: dict[str, Callable[[Any], bool]] = {
    "dim": _is_dim,
    "dims": _is_dims,
    "real": lambda v: isinstance(v, float) and math.isfinite(v),
    "flag": lambda v: isinstance(v, bool),
    "axis": lambda v: isinstance(v, str),
    "axes": lambda v: isinstance(v, tuple) and all(_is_int(d) for d in v),
    "name": lambda v: isinstance(v, str),
    "names": lambda v: isinstance(v, tuple) and all(isinstance(n, str) for n in v),
    "dilation": _is_dilation,
    "dilations": lambda v: isinstance(v, tuple) and all(map(_is_dilation, v)),
    "graph": _is_graph,
}


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
