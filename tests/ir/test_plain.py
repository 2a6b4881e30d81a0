"""Graphs as plain data, also with opcodes that no declaration knows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import gos_fx.instructions  # noqa: F401  (fills the instruction table)
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.ir.plain import graph_from_json, graph_to_json

TEXT = """\
def layer(x: map[1, 8, 9, 9], w: weight[8, 8, 3, 3], i: constant[4, int64]) -> map[1, 8, 9, 9]:
    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1, padding=(1, 1, 1, 1))
    v1 = sum(v0, axis="ci")
    v2 = relu(v1, slope=0.1)
    v3 = tile(v2, co=4, wo=3)
    return v3
"""  # noqa: E501


def there_and_back(graph: Graph) -> Graph:
    return graph_from_json(json.loads(json.dumps(graph_to_json(graph))))


def test_a_graph_survives() -> None:
    graph = parse(TEXT)
    again = there_and_back(graph)
    assert again == graph and hash(again) == hash(graph) and again.text == graph.text


@pytest.mark.parametrize("value", [0.1, -1e-30, float("inf"), 3, True, "ci", ((1, 2),)])
def test_opcodes_and_attributes_are_not_looked_up(value: object) -> None:
    graph = parse(TEXT)
    last = replace(graph.nodes[2], opcode="unheard_of", attributes=(("limit", value),))
    graph = replace(graph, nodes=(*graph.nodes[:2], last, graph.nodes[3]))
    assert there_and_back(graph) == graph
