"""Edits of where the taps of a filter lie (Table 3 of the paper)."""

from __future__ import annotations

from itertools import product
from typing import Any

from gos_fx.evolve.mutations.hyperparameter import correlations
from gos_fx.evolve.mutations.table import Site, mutation
from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.rewriter import Refusal, replace_node

ZEROS = (0, 1, 2, 3)  # rows or columns of zeros that the paper's filters have inside
RUNS = (2, 4, 8)
DILATIONS = tuple(product((1, 2, 3), repeat=2))


def _gaps(graph: Graph) -> tuple[Site, ...]:
    return tuple(
        Site(node.name, (("axis", axis), ("gap", gap), ("zeros", zeros)))
        for node, weight in correlations(graph)
        if "group_dilation" not in node.attrs
        for axis, taps in enumerate(weight.type.shape[2:])
        if isinstance(taps, int)
        for gap in range(taps - 1)
        for zeros in ZEROS
        if _listed(node.attr("dilation")[axis], taps)[gap] != zeros + 1
    )


def _listed(entry: Any, taps: int) -> tuple[Any, ...]:
    return entry if isinstance(entry, tuple) else (entry,) * (taps - 1)


@mutation(_gaps)
def change_gaps(graph: Graph, site: Site) -> Graph | Refusal:
    """Another number of zeros between two neighbouring rows or columns of a filter."""
    node = graph.by_name[site.node]
    axis = site["axis"]
    taps = graph.types[node.operands[1]].shape[2 + axis]
    assert isinstance(taps, int)
    gaps = list(_listed(node.attr("dilation")[axis], taps))
    gaps[site["gap"]] = site["zeros"] + 1
    dilation = list(node.attr("dilation"))
    dilation[axis] = gaps[0] if len(set(gaps)) == 1 else tuple(gaps)
    return _with(graph, node, dilation=tuple(dilation))


def _runs(graph: Graph) -> tuple[Site, ...]:
    found = []
    for node, _ in correlations(graph):
        groups, runs = node.attr("groups"), node.attrs.get("group_dilation")
        if groups == 1:
            continue
        counts = dict.fromkeys((*RUNS, *((groups,) if isinstance(groups, int) else ())))
        if runs is None and node.attr("dilation") == (1, 1):
            found += [
                Site(node.name, (("runs", count), ("first", first)))
                for count in counts
                if not isinstance(groups, int) or groups % count == 0
                for first in range(len(DILATIONS))
            ]
        elif runs is not None:
            found.append(Site(node.name, (("runs", 0),)))
            found += [
                Site(node.name, (("runs", len(runs)), ("run", run), ("to", pair)))
                for run, pair in product(range(len(runs)), DILATIONS)
                if runs[run] != pair
            ]
    return tuple(found)


@mutation(_runs)
def change_group_dilation(graph: Graph, site: Site) -> Graph | Refusal:
    """A dilation of its own, in both directions, for each of n runs of the groups:
    at first one after the other of all that there are, later any for any run; or one
    for all again. With as many runs as channels each channel has its own."""
    node = graph.by_name[site.node]
    count, before = site["runs"], node.attrs.get("group_dilation")
    if count == 0:
        return _with(graph, node, group_dilation=None)
    if before is None:
        taken = (DILATIONS[(site["first"] + r) % len(DILATIONS)] for r in range(count))
        return _with(graph, node, group_dilation=tuple(taken))
    runs = list(before)
    runs[site["run"]] = site["to"]
    return _with(graph, node, group_dilation=tuple(runs))


def _with(graph: Graph, node: Node, **changed: Any) -> Graph:
    attributes = node.attrs | changed
    attributes = {k: v for k, v in attributes.items() if v is not None}
    return replace_node(
        graph, node.name, lambda b, v: b.emit(node.opcode, *v, **attributes)
    )
