"""What a graph must keep of the operator that it replaces."""

from __future__ import annotations

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph, Input
from gos_fx.ir.rewriter import insert_after
from gos_fx.ir.types import Type
from gos_fx.ir.verifier import Bounds, check_bounds, verify


def check_replacement(graph: Graph, original: Graph, bounds: Bounds) -> Graph:
    """The graph itself, once it is known that it can take the original's place.

    Raises:
        VerifyError: it is not valid, is beyond the bounds, reads other feature maps or
            weights than the original has, or gives another element count.
    """
    verify(graph)
    check_bounds(graph, bounds, original)
    check_inputs(graph, original)
    check_result(graph, original)
    return graph


def check_result(graph: Graph, original: Graph) -> None:
    """Refuse an output that a reshape does not turn into the original's.

    Raises:
        VerifyError: with both counts.
    """
    found, wanted = graph.result.values, original.result.values
    if len(found) != len(wanted):
        raise VerifyError(
            f"{len(found)} results, the original has {len(wanted)}", graph.name
        )
    for one, other in zip(found, wanted, strict=True):
        if one.elements != other.elements:
            raise VerifyError(
                f"the output has {one.elements} elements, the original's "
                f"{other.elements}",
                where=graph.name,
                do="Insert a pad, slice, resize or matmul.",
            )
        if one.dtype != other.dtype:
            raise VerifyError(
                f"the output is {one.dtype}, the original's {other.dtype}", graph.name
            )


def in_shape_of(graph: Graph, original: Graph) -> Graph:
    """The graph with a reshape at its end where the shape is not the original's.

    Raises:
        VerifyError: as :func:`check_result`, or one of several results has another
            shape.
    """
    check_result(graph, original)
    wanted = original.result
    if graph.result == wanted:
        return graph
    return insert_after(
        graph, graph.output, lambda b, v: b.emit("reshape", *v, shape=wanted.shape)
    )


def check_inputs(graph: Graph, original: Graph) -> None:
    """Refuse what the operator's sites do not have.

    Raises:
        VerifyError: a feature map or a weight without projection is not the original's,
            or a projection reads a weight that the original lacks.
    """
    if [_typed(v) for v in graph.maps] != [_typed(v) for v in original.maps]:
        raise VerifyError("its feature maps are not the original's", graph.name)
    weights = {v.name: v.type for v in original.weights if v.init is None}
    inits = [v.init for v in original.weights if v.init is not None]
    readable = {*weights}.union(*(init.originals for init in inits))
    for value in graph.weights:
        where = f"{graph.name}, {value.name}"
        if value.init is None:
            known = weights.get(value.name)
            if known is None:
                raise VerifyError(f"the original has no weight {value.name}", where)
            if known != value.type:
                raise VerifyError(f"it is {value.type}, the original's {known}", where)
            continue
        for name in sorted(value.init.originals - readable):
            raise VerifyError(
                f"{value.init} reads {name}, which the original lacks", where
            )


def _typed(value: Input) -> tuple[str, Type]:
    return value.name, value.type
