"""Crossover of two graphs at a value of equal type (Algorithm 2, made precise)."""

from __future__ import annotations

import random

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph
from gos_fx.ir.rewriter import Refusal, splice
from gos_fx.ir.verifier import verify


def split_points(a: Graph, b: Graph) -> tuple[tuple[str, str], ...]:
    """All pairs (u, v) with type(u) = type(v), u a value of a, v one of b.

    Only feature maps split, and not both graphs at their input or both at their
    output, where the child would be a parent again.
    """
    return tuple(
        (u, v)
        for u, type_u in a.types.items()
        for v, type_v in b.types.items()
        if type_u == type_v
        and type_u.role == "map"
        and not (u not in a.by_name and v not in b.by_name)
        and not (u == a.output and v == b.output)
    )


def cross(a: Graph, b: Graph, rng: random.Random) -> Graph | Refusal:
    """The part of ``a`` that ends at u, then the part of ``b`` that reads v.

    The pair is drawn uniformly; other operands of b's part bring their ancestors.
    """
    points = split_points(a, b)
    if not points:
        return Refusal("the graphs share no inner type")
    u, v = rng.choice(points)
    try:
        return verify(splice(a, u, b, v))
    except VerifyError as error:
        return Refusal(error.what)
