"""Every instruction as ONNX, checked by onnx and run by ONNX Runtime, against torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from gos_fx import instructions  # noqa: F401  (fills the instruction table)
from gos_fx.errors import Unsupported
from gos_fx.ir.builder import Builder
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.parser import parse
from gos_fx.ir.types import Type
from gos_fx.passes.onnx.graph import graph_to_onnx

WITHOUT = {"cholesky", "eigh", "inverse", "matrix_rank", "pinv", "qr", "svd"}


def m(*shape: int, dtype: str = "float32") -> Type:
    return Type("map", shape, dtype)


def w(*shape: int) -> Type:
    return Type("weight", shape)


IMAGE, SEQUENCE, ROWS = m(2, 4, 5, 6), m(2, 5, 4), m(3, 4)
WINDOW = {"stride": (1, 1), "padding": (1, 1, 1, 1)}
MAPS = {"groups": 1, "dilation": (1, 1), **WINDOW}
# Instruction, its operands, its attributes.
CASES: list[tuple[str, tuple[Type, ...], dict[str, Any]]] = [
    ("matmul", (SEQUENCE, w(4, 3)), {}),
    ("matmul", (m(2, 3, 5), SEQUENCE), {}),
    ("matvec", (SEQUENCE, m(2, 4)), {}),
    ("matvec", (w(3, 4), ROWS), {}),
    ("dot", (SEQUENCE, SEQUENCE), {}),
    ("dot", (SEQUENCE, w(4)), {}),
    ("outer", (ROWS, m(3, 5)), {}),
    ("kron", (m(2, 3, 4), m(2, 2, 5)), {}),
    ("kron", (w(3, 4), SEQUENCE), {}),
    ("kron", (m(3, 4), w(2, 2)), {}),
    ("det", (m(2, 4, 4),), {}),
    ("trace", (m(2, 4, 4),), {}),
    *(("vector_norm", (IMAGE,), {"ord": o, "axis": "wo"}) for o in ("1", "2", "inf")),
    ("vector_norm", (SEQUENCE,), {"ord": "2", "axis": "t", "keep": True}),
    *(("matrix_norm", (IMAGE,), {"ord": o}) for o in ("1", "inf")),
    ("frobenius_norm", (IMAGE,), {}),
    ("add", (IMAGE, IMAGE), {}),
    ("add", (IMAGE, w(4)), {}),
    ("add", (w(4), IMAGE), {}),
    ("sub", (SEQUENCE, w(4)), {}),
    ("sub", (m(2, 3, 4, 5, 6), w(3)), {}),
    ("hadamard", (ROWS, w(4)), {}),
    ("hadamard", (m(1, 2, 1, 2, 1, 2), m(1, 2, 1, 2, 1, 2)), {}),
    ("hadamard", (IMAGE, m(2, 4, 1, 1)), {}),
    ("div", (IMAGE, w(4)), {}),
    ("chain_rule", (IMAGE, w(4)), {}),
    ("sqrt", (IMAGE,), {}),
    ("exp", (IMAGE,), {}),
    ("erf", (IMAGE,), {}),
    ("gradient", (IMAGE,), {}),
    ("gradient", (m(2, 3, 1, 2),), {}),
    ("gradient", (SEQUENCE,), {}),
    ("gradient", (ROWS,), {}),
    *(("partial_derivative", (IMAGE,), {"axis": a}) for a in ("n", "co", "ho", "wo")),
    ("sigmoid", (IMAGE,), {}),
    *(("relu", (IMAGE,), {"slope": slope}) for slope in (0.0, 0.03, 1.0)),
    ("tanh", (IMAGE,), {}),
    *(("softmax", (IMAGE,), {"axis": a}) for a in ("co", "ho", "wo")),
    ("softmax", (SEQUENCE,), {"axis": "t"}),
    ("cross_correlation", (IMAGE, w(6, 4, 3, 3)), MAPS),
    ("cross_correlation", (IMAGE, w(6, 2, 3, 3)), {**MAPS, "groups": 2}),
    ("cross_correlation", (IMAGE, w(8, 1, 3, 2)), {**MAPS, "groups": 4}),
    ("cross_correlation", (IMAGE, w(6, 4, 3, 3)), {**MAPS, "padding": (-1, 2, 0, 1)}),
    ("cross_correlation", (IMAGE, w(6, 4, 3, 3)), {**MAPS, "stride": (2, 3)}),
    ("cross_correlation", (IMAGE, w(6, 4, 3, 3)), {**MAPS, "dilation": (2, (1, 3))}),
    ("cross_correlation", (IMAGE, w(6, 4, 2, 3)), {**MAPS, "dilation": ((3,), (2, 2))}),
    (
        "cross_correlation",
        (IMAGE, w(8, 2, 3, 3)),
        {**MAPS, "groups": 2, "group_dilation": (((1, 2), 1), (2, (2, 1)))},
    ),
    (
        "cross_correlation",
        (IMAGE, w(8, 1, 3, 3)),
        {**MAPS, "groups": 4, "group_dilation": ((1, 2), (2, 2))},
    ),
    ("max_pool", (IMAGE,), {"kernel": (3, 2), **WINDOW}),
    ("max_pool", (IMAGE,), {"kernel": (2, 2), **WINDOW, "padding": (3, 0, -1, 0)}),
    *(
        ("avg_pool", (IMAGE,), {**WINDOW, "kernel": k, "padding": p, "include_pad": i})
        for k, p in (((3, 3), (1, 0, 1, 1)), ((2, 2), (1, -1, 1, 1)))
        for i in (True, False)
    ),
    *(
        ("density", (IMAGE, w(4), w(4)), {"distribution": name})
        for name in ("normal", "laplace", "logistic")
    ),
    ("density", (SEQUENCE, SEQUENCE, SEQUENCE), {"distribution": "normal"}),
    ("posterior", (IMAGE, w(4)), {"axis": "co"}),
    ("posterior", (SEQUENCE, SEQUENCE), {"axis": "t"}),
    *(
        case
        for name in ("sum", "mean", "max", "min")
        for case in (
            (name, (IMAGE,), {"axis": "ho"}),
            (name, (SEQUENCE,), {"axis": "t", "keep": True}),
            (name, (IMAGE, w(4), IMAGE), {"axis": ""}),
        )
    ),
    ("weighted_mean", (IMAGE, w(5)), {"axis": "ho"}),
    ("weighted_mean", (SEQUENCE, w(5)), {"axis": "t", "keep": True}),
    ("concat", (IMAGE, m(2, 3, 5, 6), IMAGE), {"axis": "co"}),
    ("reshape", (IMAGE,), {"shape": (2, 120)}),
    ("transpose", (IMAGE,), {"axes": (0, 2, 3, 1)}),
    ("flip", (IMAGE,), {"axis": "wo"}),
    ("slice", (IMAGE,), {"axis": 2, "start": 1, "size": 2, "step": 2}),
    *(
        ("pad", (IMAGE,), {"amounts": (0, 0, 0, 0, 1, 2, 3, 0), "mode": mode})
        for mode in ("zeros", "reflect", "replicate", "circular")
    ),
    ("resize", (IMAGE,), {"size": (10, 3)}),
    ("resize", (m(1, 1, 35, 7),), {"size": (56, 45)}),
    ("resize", (IMAGE,), {"size": (8, 3), "mode": "bilinear"}),
    ("resize", (IMAGE,), {"size": (8, 3), "mode": "bilinear", "align": True}),
    ("gather", (w(7, 4), m(2, 3, dtype="int64")), {}),
    ("cast", (IMAGE,), {"dtype": "int64"}),
    ("cast", (IMAGE,), {"dtype": "float64"}),
    ("bundle", (IMAGE, ROWS), {}),
    ("tile", (IMAGE,), {"co": 2}),
    ("unroll", (IMAGE,), {"wo": 2}),
]
# What has no operand, or stands on an instruction of its own kind.
TEXTS = {
    "scalar": """
def f(x: map[2, 3]) -> map[2, 3]:
    v0 = scalar(value=3.5)
    v1 = scalar(value=0.1)
    v2 = div(v0, v1)
    v3 = hadamard(v2, x)
    v4 = max(v3, v1, axis="")
    return v4""",
    "identity": """
def f(x: map[2, 3]) -> map[2, 3]:
    v0 = identity(size=3)
    v1 = matmul(x, v0)
    return v1""",
    "zeros": """
def f(x: map[2, 3]) -> map[4, 3]:
    v0 = zeros(shape=(4, 2))
    v1 = matmul(v0, x)
    return v1""",
    "result": """
def f(x: map[2, 3, 4, 5]) -> map[2, 3, 4, 5]:
    v0 = gradient(x)
    v1 = result(v0, index=1)
    v2 = result(v0, index=0)
    v3 = sub(v1, v2)
    return v3""",
    "scan": """
def f(
    x: map[2, 5, 3], h: map[2, 3], *, w: weight[3, 3]
) -> (map[2, 5, 3], map[2, 5, 3]):
    def cell(
        c: map[2, 3], x: map[2, 3], h: map[2, 3], *, w: weight[3, 3]
    ) -> (map[2, 3], map[2, 3]):
        v0 = matmul(h, w)
        v1 = add(v0, x)
        v2 = tanh(v1)
        v3 = scalar(value=0.5)
        v4 = hadamard(c, v3)
        v5 = add(v4, v2)
        v6 = bundle(v2, v5)
        return v6
    v0 = scan(h, x, h, w, body=cell, states=("h", "c"), reverse=REVERSE)
    return v0""",
}


def graph_of(
    name: str, operands: tuple[Type, ...], attributes: Mapping[str, Any]
) -> Graph:
    builder = Builder(name)
    names = [builder.input(f"x{i}", found) for i, found in enumerate(operands)]
    return builder.build(builder.append(name, names, attributes))


def values_of(graph: Graph) -> dict[str, Tensor]:
    """Positive numbers of all sizes, and small whole ones."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for value in graph.inputs:
        shape = [int(dim) for dim in value.type.shape]  # type: ignore[arg-type]
        if value.type.dtype == "int64":
            found[value.name] = torch.randint(0, 7, shape, generator=generator)
        else:
            found[value.name] = torch.rand(shape, generator=generator) * 3 + 0.01
    return found


def signed(graph: Graph) -> dict[str, Tensor]:
    values = values_of(graph)
    return {k: v - 1.5 if v.is_floating_point() else v for k, v in values.items()}


def run(model: onnx.ModelProto, inputs: Mapping[str, Tensor]) -> list[Any]:
    """What ONNX Runtime computes; the model is one that onnx's checker passes."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]
    found: list[Any] = session.run(None, {n: inputs[n].numpy() for n in names})
    return found


def check(
    graph: Graph,
    values: Mapping[str, Tensor],
    bindings: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """The model, once it is known to give what the interpreter gives."""
    model = graph_to_onnx(graph, values, bindings)
    expected = evaluate(graph.instantiate(bindings or {}), values)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = run(model, values)
    assert len(found) == len(expected)
    for y, z in zip(found, expected, strict=True):
        assert y.shape == tuple(z.shape) and y.dtype == z.numpy().dtype
        scale = float(z[z.isfinite()].double().abs().max())
        np.testing.assert_allclose(y, z.numpy(), rtol=0, atol=1e-5 * scale)
    return model


def operators(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node if n.op_type != "Identity"]


@pytest.mark.parametrize(("name", "operands", "attributes"), CASES)
def test_every_instruction_gives_what_torch_gives(
    name: str, operands: tuple[Type, ...], attributes: Mapping[str, Any]
) -> None:
    graph = graph_of(name, operands, attributes)
    check(graph, values_of(graph))
    if name != "sqrt":
        check(graph, signed(graph))


@pytest.mark.parametrize("name", sorted(TEXTS))
@pytest.mark.parametrize("reverse", ["True", "False"])
def test_what_stands_among_others(name: str, reverse: str) -> None:
    graph = parse(TEXTS[name].strip().replace("REVERSE", reverse))
    check(graph, signed(graph))


def test_every_instruction_is_tested_or_refused() -> None:
    tested = {name for name, _, _ in CASES} | set(TEXTS)
    assert tested | WITHOUT == set(OPCODES)
    assert not tested & WITHOUT


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_what_onnx_lacks_is_refused_by_name(name: str) -> None:
    graph = graph_of(name, (m(2, 3, 3),), {})
    with pytest.raises(Unsupported) as refusal:
        graph_to_onnx(graph, {})
    assert str(refusal.value) == (
        f"ONNX has no operator for {name} ({name}). keep this operator's original, or "
        "compile the network with gos_fx.compile, which has all instructions"
    )


@pytest.mark.parametrize("order", ["2", "nuclear"])
def test_norms_by_singular_values_are_refused(order: str) -> None:
    graph = graph_of("matrix_norm", (m(2, 3, 3),), {"ord": order})
    with pytest.raises(Unsupported, match="ONNX has no singular values"):
        graph_to_onnx(graph, {})


CHAIN = """
def f(
    x: map[2, 4, 7, 8], *, w: weight[6, 2, 3, 3], g: weight[2], b: weight[6]
) -> map[2, 6, 7, 8]:
    v0 = cross_correlation(
        x, w, stride=(1, 1), dilation=(1, 1), groups=2, padding=(1, 1, 1, 1)
    )
    v1 = SUM
    v2 = tile(v1, co=2)
    v3 = ADD
    return v3"""


@pytest.mark.parametrize(
    ("aggregation", "addition", "expected"),
    [
        ('sum(v0, axis="ci")', "add(v1, b)", ["Conv"]),
        ('sum(v0, axis="ci")', "hadamard(v2, b)", ["Conv", "Reshape", "Mul"]),
        ('mean(v0, axis="ci")', "add(v2, b)", ["Conv", "Div", "Reshape", "Add"]),
        (
            'weighted_mean(v0, g, axis="ci")',
            "add(v2, b)",
            ["ReduceSum", "Div", "Reshape", "Mul", "Conv", "Reshape", "Add"],
        ),
    ],
)
def test_a_sum_over_channels_is_one_convolution(
    aggregation: str, addition: str, expected: list[str]
) -> None:
    text = CHAIN.strip().replace("SUM", aggregation).replace("ADD", addition)
    if "(v0, g" not in text:
        text = text.replace(" g: weight[2],", "")
    if "(v1, b)" in text:
        text = text.replace("    v2 = tile(v1, co=2)\n", "").replace("v3", "v2")
    graph = parse(text)
    assert operators(check(graph, signed(graph))) == expected


@pytest.mark.parametrize(
    ("more", "height", "width"),
    [
        ("dilation=(1, (1, 2, 3))", 5, 2),
        ("dilation=((2, 2), 1)", 3, 5),
        ("dilation=(1, 1), group_dilation=((1, 1), ((1, 2), (2, 1, 1)))", 4, 4),
    ],
)
def test_gaps_inside_filters_are_still_one_convolution(
    more: str, height: int, width: int
) -> None:
    graph = parse(
        f"""
def f(
    x: map[2, 4, 7, 8], *, w: weight[6, 2, 3, 4], b: weight[6]
) -> map[2, 6, {height}, {width}]:
    v0 = cross_correlation(x, w, stride=(1, 1), {more}, groups=2, padding=(0, 0, 0, 0))
    v1 = sum(v0, axis="ci")
    v2 = add(v1, b)
    return v2""".strip()
    )
    assert operators(check(graph, signed(graph))).count("Conv") == 1


TEMPLATE = """
def f(x: map[N, C_in, H, W], *, w: weight[C_out, C_in, 1, 1]) -> map[N, C_out * H * W]:
    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = reshape(v1, shape=(N, C_out * H * W))
    return v2"""
SIZES = {"N": 2, "C_in": 3, "C_out": 4, "H": 5, "W": 6}


def test_a_template_takes_any_batch() -> None:
    template = parse(TEMPLATE.strip())
    values = values_of(template.instantiate(SIZES))
    model = graph_to_onnx(template, values, SIZES)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    larger = values_of(template.instantiate({**SIZES, "N": 7}))
    (found,) = run(model, {"x": larger["x"]})
    expected = evaluate(
        template.instantiate(SIZES | {"N": 7}), larger | {"w": values["w"]}
    )
    torch.testing.assert_close(torch.from_numpy(found), expected)


def test_a_batch_that_is_written_into_the_graph_stays() -> None:
    template = parse(
        """
def f(x: map[N, C]) -> map[N, N]:
    v0 = zeros(shape=(C, N))
    v1 = matmul(x, v0)
    return v1""".strip()
    )
    values = values_of(template.instantiate({"N": 2, "C": 3}))
    model = graph_to_onnx(template, values, {"N": 2, "C": 3})
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_a_batch_that_is_not_in_front_is_open_too() -> None:
    text = TEMPLATE.strip().replace("(N, C_out * H * W)", "(C_out * H * W, N)")
    template = parse(text.replace("map[N, C_out * H * W]", "map[C_out * H * W, N]"))
    model = check(template, values_of(template.instantiate(SIZES)), SIZES)
    (result,) = model.graph.output
    rows, columns = result.type.tensor_type.shape.dim
    assert rows.dim_value == 120 and columns.dim_param == "N"


def test_equal_constants_are_one() -> None:
    graph = parse(
        """
def f(x: map[2, 3]) -> map[2, 3]:
    v0 = scalar(value=2.0)
    v1 = hadamard(x, v0)
    v2 = scalar(value=2.0)
    v3 = hadamard(v1, v2)
    return v3""".strip()
    )
    model = check(graph, values_of(graph))
    assert len(model.graph.initializer) == 1
    assert model.opset_import[0].version == 20 and len(model.opset_import) == 1


def test_zeros_and_bodies_of_scans_take_any_batch() -> None:
    template = parse(
        """
def f(x: map[N, T, C], *, w: weight[C, C]) -> map[N, T, C]:
    def cell(x: map[N, C], h: map[N, C], *, w: weight[C, C]) -> map[N, C]:
        v0 = matmul(h, w)
        v1 = add(v0, x)
        v2 = reshape(v1, shape=(N * C, 1))
        v3 = reshape(v2, shape=(N, C))
        return v3
    v0 = zeros(shape=(N, C))
    v1 = scan(x, v0, w, body=cell, states=("h",))
    v2 = result(v1, index=0)
    return v2""".strip()
    )
    sizes = {"N": 2, "T": 3, "C": 4}
    values = values_of(template.instantiate(sizes))
    model = check(template, values, sizes)
    larger = values_of(template.instantiate(sizes | {"N": 5}))
    (found,) = run(model, {"x": larger["x"]})
    expected = evaluate(
        template.instantiate(sizes | {"N": 5}), larger | {"w": values["w"]}
    )
    torch.testing.assert_close(torch.from_numpy(found), expected)


def test_weights_that_share_memory_are_one() -> None:
    graph = parse(
        """
def f(x: map[2, 3], *, u: weight[3, 3], w: weight[3, 3]) -> map[2, 3]:
    v0 = matmul(x, u)
    v1 = matmul(v0, w)
    return v1""".strip()
    )
    values = values_of(graph)
    values["w"] = values["u"]
    assert len(check(graph, values).graph.initializer) == 1
