"""FLOPs and bytes of instructions, against torch's counter or a count by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from instruction_case import FIVE, MAP, Case, graph_of, operands
from instruction_cases import CASES, every_case
from torch.utils.flop_counter import FlopCounterMode

from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.types import Type


def cases_of(*opcodes: str) -> list[Any]:
    return [
        pytest.param(*case, id=n) for n, case in CASES.items() if case[0] in opcodes
    ]


def instruction_of(graph: Graph, opcode: str) -> tuple[Node, list[Type]]:
    (node,) = (node for node in graph.nodes if node.opcode == opcode)
    return node, [graph.types[name] for name in node.operands]


def flops(opcode: str, case: Case) -> Any:
    node, types = instruction_of(graph_of(opcode, case), opcode)
    return OPCODES[opcode].flops(node.type, *types, **node.attrs)


@pytest.mark.parametrize(("opcode", "case"), cases_of("matmul", "matvec"))
def test_flops_of_products(opcode: str, case: Case) -> None:
    graph = graph_of(opcode, case)
    with FlopCounterMode(display=False) as counter:
        evaluate(graph, operands(graph, case.draw))
    assert flops(opcode, case) == counter.get_total_flops() > 0


@pytest.mark.parametrize(("opcode", "case"), cases_of("cross_correlation"))
def test_flops_of_convolution(opcode: str, case: Case) -> None:
    """Products and their sum over the channels; the counter counts both as one."""
    graph, summed = graph_of(opcode, case), OPCODES[opcode].summed
    assert summed is not None
    values = operands(graph, case.draw).values()
    with FlopCounterMode(display=False) as counter:
        total = summed(*values, None, **case.attributes)
    assert flops(opcode, case) == counter.get_total_flops()
    maps = OPCODES[opcode].reference(*values, **case.attributes)
    torch.testing.assert_close(maps.sum(2), total)


def square(n: int, *more: Any, **attributes: Any) -> Case:
    return Case([Type("map", (3, n, n))], lambda x: x, attributes)


def two(*shapes: tuple[int, ...], **attributes: Any) -> Case:
    return Case([Type("map", shape) for shape in shapes], lambda x: x, attributes)


@pytest.mark.parametrize(
    ("opcode", "case", "expected"),
    [
        ("add", two(MAP, MAP), math.prod(MAP)),
        ("sum", two(FIVE, axis="ci"), math.prod(FIVE)),
        ("sum", two(MAP, MAP, MAP, axis=""), 2 * math.prod(MAP)),
        ("dot", two((2, 3, 4), (2, 3, 4)), 2 * 2 * 3 * 4),
        ("outer", two((2, 3), (2, 5)), 2 * 3 * 5),
        ("kron", two((2, 3, 4), (2, 5, 2)), 2 * 15 * 8),
        ("trace", two((2, 4, 4)), 2 * 4),
        ("vector_norm", two((2, 3), axis="co", ord="1"), 2 * 2 * 3),
        ("gradient", two(MAP), 2 * 2 * math.prod(MAP)),
        ("max_pool", two(MAP, kernel=(3, 2), stride=(1, 1), padding=(0, 0, 0, 0)),
         2 * 4 * 3 * 5 * 3 * 2),
        ("inverse", square(6), 3 * 2 * 6**3),
        ("det", square(6), 3 * 2 * 6**3 // 3),
        ("cholesky", square(6), 3 * 6**3 // 3),
        ("eigh", square(6), 3 * 9 * 6**3),
        ("qr", two((2, 6, 3)), 2 * (4 * 6 * 9 - 4 * 27 // 3)),
        ("svd", two((2, 3, 6)), 2 * (14 * 6 * 9 + 8 * 27)),
        ("pinv", two((2, 6, 3)), 2 * (14 * 6 * 9 + 8 * 27 + 2 * 6 * 9)),
        ("matrix_norm", two((2, 6, 3), ord="2"), 2 * (4 * 6 * 9 - 4 * 27 // 3)),
        ("matrix_norm", two((2, 6, 3), ord="1"), 2 * 2 * 6 * 3),
        ("resize", two(MAP, size=(2, 3), mode="bilinear"), 7 * 2 * 4 * 2 * 3),
    ],
)  # fmt: skip
def test_flops(opcode: str, case: Case, expected: int) -> None:
    assert flops(opcode, case) == expected


@pytest.mark.parametrize(
    ("opcode", "case"),
    cases_of("tile", "unroll", "reshape", "transpose", "flip", "slice", "pad", "concat",
             "gather", "cast", "bundle", "result", "scalar", "identity", "zeros"),
)  # fmt: skip
def test_what_computes_nothing_is_free(opcode: str, case: Case) -> None:
    assert flops(opcode, case) == 0


@every_case
def test_bytes(opcode: str, case: Case) -> None:
    """Operands are read and results written once."""
    graph = graph_of(opcode, case)
    node, types = instruction_of(graph, opcode)
    moved = OPCODES[opcode].moved(node.type, *types, **node.attrs)
    if opcode in ("result", "bundle"):
        assert moved == 0
        return
    total = 0
    for value in (node.type, *types):
        for part in value.values:
            size = torch.empty(0, dtype=getattr(torch, part.dtype)).element_size()
            total += size * math.prod(int(dim) for dim in part.shape)
    if opcode == "gather":  # of the table only what is looked up
        table, found = types[0], node.type
        total += 4 * (math.prod(found.shape) - math.prod(table.shape))
    assert moved == total
