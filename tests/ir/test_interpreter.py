"""The interpreter: the chain is one convolution; other aggregations as defined."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gos_fx.errors import VerifyError
from gos_fx.instructions import convolution
from gos_fx.ir import interpreter
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse


def correlation(
    aggregate: str = "sum",
    *,
    groups: int = 1,
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, ...] = (1, 1, 1, 1),
    size: int = 7,
) -> Graph:
    reach = 2 * dilation + 1
    pads = (sum(padding[:2]), sum(padding[2:]))
    out = [(size + p - reach) // stride + 1 for p in pads]
    gain = f", g: weight[{4 // groups}]" if aggregate == "weighted_mean" else ""
    operands = "v0, g" if gain else "v0"
    return parse(
        f"""\
def f(x: map[2, 4, {size}, {size}], *, w: weight[6, {4 // groups}, 3, 3]{gain}) -> map[2, 6, {out[0]}, {out[1]}]:
    v0 = cross_correlation(x, w, stride=({stride}, {stride}), dilation=({dilation}, {dilation}), groups={groups}, padding={padding})
    v1 = {aggregate}({operands}, axis="ci")
    return v1"""  # noqa: E501
    )


def tensors(graph: Graph) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        v.name: torch.randn([int(d) for d in v.type.shape], generator=generator)
        for v in graph.inputs
    }


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_the_chain_is_a_convolution(groups: int, stride: int, dilation: int) -> None:
    graph = correlation(groups=groups, stride=stride, dilation=dilation)
    values = tensors(graph)
    expected = F.conv2d(
        values["x"], values["w"], None, stride, 1, dilation, groups=groups
    )
    torch.testing.assert_close(evaluate(graph, values), expected)


@pytest.mark.parametrize("padding", [(0, 1, 2, 0), (-1, 0, 0, -1), (2, 2, 1, 1)])
def test_uneven_and_negative_padding(padding: tuple[int, int, int, int]) -> None:
    graph = correlation(padding=padding)
    values = tensors(graph)
    top, bottom, left, right = padding
    x = F.pad(values["x"], (left, right, top, bottom))
    torch.testing.assert_close(evaluate(graph, values), F.conv2d(x, values["w"]))


def products(values: dict[str, Tensor], groups: int) -> Tensor:
    """Every map of the cross-correlation, from its definition, one by one."""
    x, w = values["x"], values["w"]
    maps = []
    for o in range(6):
        group = o // (6 // groups)
        for c in range(4 // groups):
            source = x[:, group * (4 // groups) + c][:, None]
            maps.append(F.conv2d(source, w[o, c][None, None], padding=1))
    return torch.cat(maps, 1).view(2, 6, 4 // groups, 7, 7)


AGGREGATIONS: dict[str, Callable[[Tensor, dict[str, Tensor]], Tensor]] = {
    "sum": lambda maps, _: maps.sum(2),
    "mean": lambda maps, _: maps.mean(2),
    "max": lambda maps, _: maps.amax(2),
    "min": lambda maps, _: maps.amin(2),
    "weighted_mean": lambda maps, values: (
        (maps * values["g"].view(-1, 1, 1)).sum(2) / values["g"].sum()
    ),
}


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
@pytest.mark.parametrize("groups", [1, 2])
def test_aggregations_equal_their_definition(aggregate: str, groups: int) -> None:
    graph = correlation(aggregate, groups=groups)
    values = tensors(graph)
    if "g" in values:
        values["g"] = values["g"].abs() + 0.1
    expected = AGGREGATIONS[aggregate](products(values, groups), values)
    torch.testing.assert_close(evaluate(graph, values), expected)


@pytest.mark.parametrize("aggregate", ["sum", "mean", "weighted_mean"])
def test_the_chain_stores_no_maps(
    aggregate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "MATERIALISE_BYTES", 0)
    graph = correlation(aggregate)
    evaluate(graph, tensors(graph))


def test_maps_beyond_the_cap_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = correlation("max")
    bytes_of_maps = 4 * 2 * 6 * 4 * 7 * 7
    monkeypatch.setattr(interpreter, "MATERIALISE_BYTES", bytes_of_maps)
    evaluate(graph, tensors(graph))
    monkeypatch.setattr(interpreter, "MATERIALISE_BYTES", bytes_of_maps - 1)
    with pytest.raises(VerifyError, match="its maps take"):
        evaluate(graph, tensors(graph))


def test_a_missing_input_is_named() -> None:
    graph = correlation()
    values = tensors(graph)
    del values["w"]
    with pytest.raises(VerifyError, match="no value for input w"):
        evaluate(graph, values)


def test_maps_read_twice_are_kept() -> None:
    text = correlation().text.replace("    return v1", "")
    text += '    v2 = max(v0, axis="ci")\n    v3 = add(v1, v2)\n    return v3'
    graph = parse(text)
    values = tensors(graph)
    maps = products(values, 1)
    torch.testing.assert_close(evaluate(graph, values), maps.sum(2) + maps.amax(2))


def behind(graph: Graph, text: str, weight: str) -> Graph:
    """``graph`` with the instruction ``v2 = text`` and a weight ``b``."""
    changed = graph.text.replace(") ->", f", b: weight[{weight}]) ->")
    return parse(changed.replace("return v1", f"v2 = {text}\n    return v2"))


@pytest.mark.parametrize("aggregate", ["sum", "mean", "max"])
@pytest.mark.parametrize("text", ["add(v1, b)", "add(b, v1)", "sub(v1, b)"])
@pytest.mark.parametrize("weight", ["6", "2, 6, 7, 7"])
def test_a_bias_behind_the_aggregation(aggregate: str, text: str, weight: str) -> None:
    graph = behind(correlation(aggregate), text, weight)
    values = tensors(graph)
    total = AGGREGATIONS[aggregate](products(values, 1), values)
    b = values["b"].view(-1, 1, 1) if weight == "6" else values["b"]
    expected = total - b if text.startswith("sub") else total + b
    torch.testing.assert_close(evaluate(graph, values), expected)


def test_gradients_flow_through_the_chain() -> None:
    graph = correlation("weighted_mean")
    values = {name: t.requires_grad_() for name, t in tensors(graph).items()}
    evaluate(graph, values).square().sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in values.values())


def test_reference_is_the_materialised_form() -> None:
    graph = correlation(groups=2)
    values = tensors(graph)
    maps = convolution.cross_correlation(
        values["x"], values["w"], **graph.by_name["v0"].attrs
    )
    torch.testing.assert_close(maps, products(values, 2))
