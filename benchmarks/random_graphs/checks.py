"""What holds of every random graph in torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.random_graphs.generator import random_graph
from benchmarks.random_graphs.values import (
    exact_outputs,
    inputs_of,
    outputs,
    rtol_of,
)
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.ir.plain import graph_from_json, graph_to_json
from gos_fx.ir.verifier import verify
from gos_fx.passes.canonicalise import canonicalise
from gos_fx.passes.emit import emit_operator

# Rewrites are exact up to rounding in double precision, as a part of the scale.
_REWRITTEN = 1e-9
# Emitted code may add in another order.
_EMITTED = 1e-5
# Single precision may be off by so many tolerances before a graph counts as
# ill-conditioned: no other order of operations could be expected to agree.
_CONDITION = 10


@dataclass(frozen=True)
class Finding:
    """A graph of which something does not hold, or that was left out."""

    seed: int
    reason: str
    text: str

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.reason}"


class Broken(Exception):
    """What does not hold."""


def check(seed: int) -> tuple[Graph, Finding | None, Finding | None]:
    """The graph of a seed; what does not hold of it; why it is left out."""
    graph = random_graph(seed)
    try:
        reason = check_graph(graph)
    except Exception as error:  # any is a finding
        what = f"{type(error).__name__}: {error}"
        return graph, Finding(seed, what.splitlines()[0], graph.text), None
    return graph, None, Finding(seed, reason, graph.text) if reason else None


def check_graph(graph: Graph) -> str:
    """Why a graph is left out; empty where it is not.

    Raises:
        Broken: something does not hold; what else is raised is a bug too.
    """
    check_text(graph)
    check_canonical(graph)
    reason = ill_conditioned(graph)
    check_emitted(graph)
    return reason


def check_text(graph: Graph) -> None:
    """It verifies and is what its text, its plain data and its own site say."""
    verify(graph)
    for form, again in _FORMS.items():
        found = again(graph)
        if (found, found.text, found.digest) != (graph, graph.text, graph.digest):
            raise Broken(f"{form} gives another graph:\n{found.text}")


_FORMS: dict[str, Callable[[Graph], Graph]] = {
    "the text": lambda graph: parse(graph.text),
    "plain data": lambda graph: graph_from_json(graph_to_json(graph)),
    "a site": lambda graph: graph.instantiate({}),
}


def check_canonical(graph: Graph) -> None:
    """The canonical form is valid, a fixed point, and has the same value."""
    found = verify(canonicalise(graph))
    if canonicalise(found) != found:
        raise Broken(f"not canonical yet:\n{found.text}")
    if found.result != graph.result:
        raise Broken(f"the canonical form gives {found.result}")
    if parse(found.text).text != found.text:
        raise Broken(f"the canonical form does not parse back:\n{found.text}")
    inputs = inputs_of(graph)
    before = exact_outputs(graph, inputs)
    after = exact_outputs(found, {v.name: inputs[v.name] for v in found.inputs})
    for x, y in zip(before, after, strict=True):
        if not bool(((x - y).abs() <= _REWRITTEN * scale(x)).all()):
            raise Broken(f"the canonical form has another value:\n{found.text}")


def check_emitted(graph: Graph) -> None:
    """Its code in torch computes what its instructions do, operation by operation."""
    inputs = inputs_of(graph)
    module = emit_operator(graph, {}, {v.name: inputs[v.name] for v in graph.weights})
    with torch.no_grad():
        found = module(*(inputs[v.name] for v in graph.maps))
    parts = found if isinstance(found, tuple) else (found,)
    for x, y in zip(outputs(graph, inputs), parts, strict=True):
        same = (x.shape, x.dtype) == (y.shape, y.dtype)
        if not (same and bool(((x - y).abs() <= _EMITTED * scale(x)).all())):
            raise Broken("the emitted code has another value")


def ill_conditioned(graph: Graph) -> str:
    """Why single precision says nothing about other code; empty where it does.

    Raises:
        Broken: another shape than the graph says, or numbers that are not finite.
    """
    inputs = inputs_of(graph)
    limit = _CONDITION * max(rtol_of(graph), 1e-5)
    exact = exact_outputs(graph, inputs)
    for part, x, y in zip(
        graph.result.values, outputs(graph, inputs), exact, strict=True
    ):
        if (tuple(x.shape), str(x.dtype)) != (part.shape, f"torch.{part.dtype}"):
            raise Broken(f"{part} has shape {tuple(x.shape)}, {x.dtype}")
        if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
            raise Broken("numbers that are not finite")
        error = float((x.double() - y).abs().max())
        if error > limit * scale(y):
            return f"torch itself is off by {error / scale(y):.1e} of the scale"
    return ""


def scale(x: Tensor) -> float:
    """The largest number; one where all are zero."""
    return float(x.abs().max()) or 1.0


def disagreement(
    found: Tensor, single: Tensor, exact: Tensor, tolerance: float
) -> float:
    """The largest error as a part of what is allowed: above one disagrees.

    Allowed is ten times torch's own error, or the tolerance, whichever is larger.
    """
    own = (single.double() - exact).abs()
    allowed = 10 * own.clamp_min(tolerance * scale(exact))
    error = (found.double() - exact).abs() / allowed
    return float(torch.nan_to_num(error, nan=float("inf")).max())
