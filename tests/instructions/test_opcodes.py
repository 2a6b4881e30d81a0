"""Every instruction against a formula in numpy, its shape rule and its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from instruction_case import Case, comparable, graph_of, operands
from instruction_cases import CASES, every_case
from torch import Tensor

import gos_fx.ir.opaque  # noqa: F401  (registers the custom operators)
from gos_fx.ir.dim import symbol
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.parser import parse
from gos_fx.ir.types import Type
from gos_fx.ir.verifier import verify
from gos_fx.passes.emit import emit_operator

CATEGORIES = {
    "linear algebra",
    "calculus",
    "activation",
    "convolution",
    "pooling",
    "probability",
    "aggregation",
    "schedule",
    "structure",
}


def parts_of(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def test_every_instruction_has_a_case() -> None:
    assert {opcode for opcode, _ in CASES.values()} == set(OPCODES)


@pytest.mark.parametrize("name", OPCODES)
def test_declaration(name: str) -> None:
    opcode = OPCODES[name]
    assert opcode.category in CATEGORIES
    assert "=" in opcode.equation or opcode.table1 is False
    assert set(opcode.takes) <= set(opcode.operands)
    assert all(a.kind != "name" or a.choices for a in opcode.attributes.values())
    # A default is legal, and so is whatever a mutation may draw.
    for attribute in opcode.attributes.values():
        if attribute.default is not None:
            assert attribute.refuses(attribute.default) == ""
        assert [v for v in attribute.choices if attribute.refuses(v)] == []


def expected_of(graph: Graph, case: Case, values: dict[str, Tensor]) -> Any:
    """The formula on the same numbers, in float64."""
    arrays = []
    for declared in graph.inputs:
        value = values[declared.name]
        arrays.append((value.double() if value.is_floating_point() else value).numpy())
    order = [v.name for v in graph.inputs]
    given = [arrays[order.index(f"x{i}")] for i, v in enumerate(case.values)
             if isinstance(v, Type)]  # fmt: skip
    return case.formula(*given, **case.attributes)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reference_is_the_formula(opcode: str, case: Case, dtype: torch.dtype) -> None:
    graph = graph_of(opcode, case)
    values = operands(graph, case.draw, dtype)
    found = comparable(opcode, evaluate(graph, values))
    expected = comparable(opcode, expected_of(graph, case, values))
    rtol = OPCODES[opcode].rtol if dtype == torch.float32 else 1e-12
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= rtol * max(float(b.abs().max()), 1e-30)


@every_case
def test_types_are_those_of_the_reference(opcode: str, case: Case) -> None:
    """On tensors, and without their data on the meta device."""
    graph = graph_of(opcode, case)
    values = operands(graph, case.draw)
    promised = [(part.shape, f"torch.{part.dtype}") for part in graph.result.values]
    for device in ("cpu", "meta"):
        there = {name: value.to(device) for name, value in values.items()}
        found = parts_of(evaluate(graph, there))
        assert [(tuple(y.shape), str(y.dtype)) for y in found] == promised
    assert graph.result.role == "map"


@every_case
def test_an_opaque_call_has_the_types(opcode: str, case: Case) -> None:
    """What ``torch.export`` is told of an operator that it must not look into."""
    graph = graph_of(opcode, case)
    values = [v.to("meta") for v in operands(graph, case.draw).values()]
    if graph.result.is_bundle:
        found = torch.ops.gos_fx.operator_bundle(graph.text, values)
    else:
        found = [torch.ops.gos_fx.operator(graph.text, values)]
    promised = [(part.shape, f"torch.{part.dtype}") for part in graph.result.values]
    assert [(tuple(y.shape), str(y.dtype)) for y in found] == promised


@every_case
def test_gradients(opcode: str, case: Case) -> None:
    graph = graph_of(opcode, case)
    values = operands(graph, case.draw, torch.float64)
    floats = {k: v.requires_grad_() for k, v in values.items() if v.is_floating_point()}

    def run(*changed: Tensor) -> Any:
        """The results that depend on the operands; zeros do not."""
        found = evaluate(graph, values | dict(zip(floats, changed, strict=True)))
        return tuple(y for y in parts_of(found) if y.requires_grad)

    if OPCODES[opcode].differentiable and case.differentiable:
        assert torch.autograd.gradcheck(run, tuple(floats.values()), fast_mode=True)
    elif not OPCODES[opcode].differentiable:
        assert run(*floats.values()) == ()


@every_case
def test_text_comes_back(opcode: str, case: Case) -> None:
    graph = graph_of(opcode, case)
    assert parse(graph.text) == verify(graph)


@every_case
def test_emitted_code(opcode: str, case: Case) -> None:
    """The reference also runs while its calls are recorded."""
    graph = graph_of(opcode, case)
    values = operands(graph, case.draw)
    given = {v.name: values[v.name] for v in graph.weights}
    emitted = emit_operator(graph, {}, given)
    found = emitted(*(values[v.name] for v in graph.maps))
    expected = evaluate(graph, values)
    for a, b in zip(parts_of(found), parts_of(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@every_case
def test_every_dtype_that_is_taken(opcode: str, case: Case) -> None:
    declaration, graph = OPCODES[opcode], graph_of(opcode, case)
    if not declaration.operands or "int64" in {v.type.dtype for v in graph.inputs}:
        return
    for name in declaration.operand(0)[1].dtypes:
        dtype = getattr(torch, name)
        if not dtype.is_floating_point:
            continue
        found = parts_of(evaluate(graph, operands(graph, case.draw, dtype)))
        assert all(bool(torch.isfinite(y).all()) for y in found)
        if opcode != "cast":
            assert {y.dtype for y in found} == {dtype}


def test_symbolic_shapes() -> None:
    n, c, m, h, w = (symbol(s) for s in ("N", "C_in", "C_out", "H", "W"))
    x, kernel = Type("map", (n, c, h, w)), Type("weight", (m, c // 4, 3, 3))
    site = {"stride": (symbol("S_h"), symbol("S_w")), "dilation": (1, 1), "groups": 4}
    found = OPCODES["cross_correlation"].infer([x, kernel], site)
    assert str(found) == "map[N, C_out, C_in // 4, H_out, W_out]"
    own = {"kernel": (3, 3), "stride": (2, 1)}
    assert str(OPCODES["max_pool"].infer([x], own)) == "map[N, C_in, ceildiv(H, 2), W]"


@pytest.mark.parametrize(
    ("name", "attributes", "result"),
    [
        ("svd", {}, "(map[N, H, min(H, W)], map[N, min(H, W)], map[N, min(H, W), W])"),
        ("qr", {}, "(map[N, H, min(H, W)], map[N, min(H, W), W])"),
        ("pinv", {}, "map[N, W, H]"),
        ("matrix_norm", {"ord": "2"}, "map[N]"),
        ("vector_norm", {"ord": "2", "axis": "t", "keep": True}, "map[N, 1, W]"),
        ("slice", {"axis": 2, "start": 1, "size": symbol("W") // 2, "step": 2},
         "map[N, H, W // 2]"),
        ("pad", {"amounts": (0, 0, 1, 1, 0, symbol("P")), "mode": "zeros"},
         "map[N, 2 + H, P + W]"),
        ("gradient", {}, "(map[N, H, W],)"),
    ],
)  # fmt: skip
def test_symbolic_matrices(name: str, attributes: dict[str, Any], result: str) -> None:
    x = Type("map", tuple(symbol(s) for s in ("N", "H", "W")))
    opcode = OPCODES[name]
    found = opcode.infer([x], attributes)
    assert str(found) == result
    assert opcode.flops(found, x, **attributes) is not None
