"""Emitted code: sizes that follow the batch, several inputs and results."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.passes.emission import BatchSize, any_batch, emits
from gos_fx.passes.emit import emit_operator

STEPS = """\
def states(x: map[T, N, C], h: map[2, N, 4], *, w: weight[C, 4]) -> (map[N, T, 4], map[2 * N, 4], map[N - 1, 4]):
    v0 = transpose(x, axes=(1, 0, 2))
    v1 = matmul(v0, w)
    v2 = zeros(shape=(N, T, 4))
    v3 = add(v1, v2)
    v4 = zeros(shape=(2, N, 4))
    v5 = add(h, v4)
    v6 = reshape(v5, shape=(2 * N, 4))
    v7 = slice(v6, axis=0, start=N, size=N - 1, step=1)
    v8 = bundle(v3, v6, v7)
    return v8"""  # noqa: E501


def values(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("batch", [2, 3, 5])
def test_sizes_follow_the_batch_wherever_it_is(batch: int) -> None:
    template, site = parse(STEPS), {"T": 4, "N": 3, "C": 5}
    weights = {"w": values((5, 4))}
    module = emit_operator(template, site, weights)
    x, h = values((4, batch, 5), 1), values((2, batch, 4), 2)
    found = module(x, h)
    graph = template.instantiate({**site, "N": batch})
    wanted = evaluate(graph, {"x": x, "h": h, **weights})
    assert isinstance(found, tuple) and len(found) == 3
    for y, z in zip(found, wanted, strict=True):
        assert torch.equal(y, z)


def test_the_code_is_that_of_a_person() -> None:
    code = emit_operator(parse(STEPS), {"T": 4, "N": 3, "C": 5}, {"w": values((5, 4))})
    lines = [line.strip() for line in code.code.splitlines() if "=" in line]
    text = "\n".join(line.partition(";")[0] for line in lines)
    assert "size = x.size(1)" in text and text.count(".size(") == 1
    assert "new_zeros = x.new_zeros((size, 4, 4))" in text
    assert "reshape = add_1.reshape((-1, 4))" in text


def test_what_is_made_has_the_type_of_what_is_given() -> None:
    module = emit_operator(
        parse(STEPS), {"T": 4, "N": 3, "C": 5}, {"w": values((5, 4))}
    )
    first, *_ = module.double()(values((4, 3, 5)).double(), values((2, 3, 4)).double())
    assert first.dtype == torch.float64


def test_lines_in_the_batch_and_nothing_else() -> None:
    template = parse(
        """\
def f(x: map[N, C]) -> map[N * N, C]:
    v0 = zeros(shape=(N * N, C))
    v1 = zeros(shape=(3 * N + 2, C))
    v2 = concat(x, v1, axis="n")
    v3 = slice(v2, axis=0, start=N // 2, size=1, step=1)
    v4 = add(v0, v3)
    return v4"""
    )
    site = {"N": 4, "C": 2}
    marked = any_batch(template.instantiate(site), template, site)
    square, line = marked.nodes[0].attr("shape")[0], marked.nodes[1].attr("shape")[0]
    assert square == 16 and not isinstance(square, BatchSize)
    assert line == 14 and (line.times, line.more) == (3, 2)
    assert not isinstance(marked.nodes[1].attr("shape")[1], BatchSize)


def test_one_form_for_an_instruction() -> None:
    with pytest.raises(ValueError, match="zeros has two forms"):
        emits("zeros")(lambda *arguments: None)
