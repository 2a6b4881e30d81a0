"""Cross-correlations with gaps inside the filter and a dilation for each run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.errors import VerifyError
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.parser import parse
from gos_fx.ir.types import Type

Array = np.ndarray[Any, Any]
SHAPE = (2, 4, 9, 11)
PLAIN = {"stride": (1, 1), "dilation": (1, 1), "groups": 1, "padding": (0, 0, 0, 0)}
CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "one gap": ((3, 4, 3, 3), {"dilation": (1, (1, 2))}),
    "both axes": (
        (3, 4, 3, 4),
        {"dilation": ((2, 1), (1, 3, 2)), "padding": (1, 2, 3, 0)},
    ),
    "equal gaps": ((3, 4, 2, 3), {"dilation": ((4,), (2, 2)), "stride": (2, 3)}),
    "grouped": ((6, 2, 1, 3), {"dilation": (1, (4, 1)), "groups": 2}),
    "depthwise": (
        (8, 1, 3, 3),
        {
            "groups": 4,
            "padding": (2, 3, 3, 3),
            "group_dilation": ((1, 2), (2, 1), (3, 3), (1, 2)),
        },
    ),
    "two runs": (
        (8, 1, 3, 3),
        {"groups": 4, "stride": (2, 1), "group_dilation": ((1, (1, 3)), ((2, 1), 1))},
    ),
}
ALL = pytest.mark.parametrize("name", CASES)


def case(name: str) -> tuple[Tensor, Tensor, dict[str, Any]]:
    shape, attributes = CASES[name]
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    w = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x, w, PLAIN | attributes


def places(entry: Any, taps: int) -> list[int]:
    gaps = entry if isinstance(entry, tuple) else [entry] * (taps - 1)
    return [sum(gaps[:k]) for k in range(taps)]


def formula(x: Array, w: Array, a: dict[str, Any]) -> Array:
    """One product after the other, as the docstring has it."""
    outputs, per_group, kh, kw = w.shape
    runs = a.get("group_dilation") or (a["dilation"],)
    at = [[places(run[i], (kh, kw)[i]) for i in (0, 1)] for run in runs]
    reach = [1 + max(taps[i][-1] for taps in at) for i in (0, 1)]
    top, bottom, left, right = a["padding"]
    grid = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = (grid.shape[2] - reach[0]) // a["stride"][0] + 1
    columns = (grid.shape[3] - reach[1]) // a["stride"][1] + 1
    y = np.zeros((x.shape[0], outputs, per_group, rows, columns))
    for o, c, i, j, k, m in np.ndindex(*y.shape[1:], kh, kw):
        group = o // (outputs // a["groups"])
        taps = at[group * len(runs) // a["groups"]]
        row, column = (
            a["stride"][d] * (i, j)[d]
            + (reach[d] - 1 - taps[d][-1]) // 2
            + taps[d][(k, m)[d]]
            for d in (0, 1)
        )
        y[:, o, c, i, j] += grid[:, group * per_group + c, row, column] * w[o, c, k, m]
    return y


@ALL
def test_maps_are_the_formula(name: str) -> None:
    x, w, attributes = case(name)
    opcode = OPCODES["cross_correlation"]
    found = opcode.reference(x, w, **attributes)
    expected = formula(x.numpy(), w.numpy(), attributes)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    types = [Type("map", SHAPE), Type("weight", tuple(w.shape))]
    assert opcode.infer(types, attributes).shape == expected.shape
    meta = opcode.reference(x.to("meta"), w.to("meta"), **attributes)
    assert tuple(meta.shape) == expected.shape
    flops = opcode.flops(opcode.infer(types, attributes), *types, **attributes)
    assert flops == 2 * expected.size * w.shape[2] * w.shape[3]  # zeros are no taps


@ALL
def test_the_sum_needs_no_maps(name: str) -> None:
    x, w, attributes = case(name)
    summed = OPCODES["cross_correlation"].summed
    assert summed is not None
    bias = torch.randn(w.shape[0], dtype=torch.float64)
    expected = formula(x.numpy(), w.numpy(), attributes).sum(2)
    expected = expected + bias.numpy()[:, None, None]
    np.testing.assert_allclose(
        summed(x, w, bias, **attributes).numpy(), expected, atol=1e-12
    )


@pytest.mark.parametrize("name", ["both axes", "depthwise"])
def test_gradients(name: str) -> None:
    x, w, attributes = case(name)
    reference = OPCODES["cross_correlation"].reference
    assert torch.autograd.gradcheck(
        lambda *v: reference(*v, **attributes),
        (x.requires_grad_(), w.requires_grad_()),
        fast_mode=True,
    )


TEXT = """\
def f(x: map[N, C_in, H, W], *, w: weight[C_in, 1, 3, 3]) -> map[N, C_in, H_out, W_out]:
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation={}, groups=C_in{})
    v1 = sum(v0, axis="ci")
    return v1"""
OWN = ", group_dilation=((1, 3), ((2, 1), 1))"
SITE = {"N": 1, "C_in": 4, "H": 8, "W": 8, "H_out": 8, "W_out": 8} | dict.fromkeys(
    ("S_h", "S_w", "P_h", "P_w", "D_h", "D_w"), 1
)
SITE |= {"K_h": 3, "K_w": 3}


@pytest.mark.parametrize(
    ("dilation", "more", "padding"),
    [("(1, (1, 2))", "", (1, 1, 1, 2)), ("(1, 1)", OWN, (1, 2, 3, 3))],
)
def test_padding_is_solved_for_the_whole_window(
    dilation: str, more: str, padding: tuple[int, ...]
) -> None:
    template = parse(TEXT.format(dilation, more))
    assert template.text == TEXT.format(dilation, more)
    concrete = template.instantiate(SITE)
    assert concrete.nodes[0].attr("padding") == padding
    values = {"x": torch.randn(1, 4, 8, 8), "w": torch.randn(4, 1, 3, 3)}
    expected = formula(
        values["x"].numpy(), values["w"].numpy(), concrete.nodes[0].attrs
    )
    found = evaluate(concrete, values)
    torch.testing.assert_close(found, torch.from_numpy(expected.sum(2)).float())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"dilation": (1, (1,))}, "1 gaps between 3 taps, not 2"),
        ({"dilation": (1, (0, 1))}, "dilation=(1, (0, 1)) is below 1"),
        ({"dilation": (1, ())}, "dilation=(1, ()) is not a dilation"),
        ({"dilation": (1, 0)}, "dilation=(1, 0) is below 1"),
        ({"group_dilation": ()}, "group_dilation=() names no run"),
        ({"group_dilation": ((1, 1),) * 3}, "3 runs do not divide 4 groups"),
        ({"group_dilation": (((1,), 1),) * 2}, "1 gaps between 3 taps, not 2"),
        (
            {"group_dilation": ((1, 2),) * 2, "dilation": (1, 2)},
            "dilation=(1, 2) beside group_dilation",
        ),
        ({"groups": 0}, "groups=0 is below 1"),
    ],
)
def test_what_is_not_legal(changed: dict[str, Any], reason: str) -> None:
    types = [Type("map", (1, 4, 8, 8)), Type("weight", (4, 1, 3, 3))]
    with pytest.raises(VerifyError) as error:
        OPCODES["cross_correlation"].infer(types, PLAIN | {"groups": 4} | changed)
    assert error.value.what == reason


def test_operands_have_roles() -> None:
    x, w = Type("map", (1, 4, 8, 8)), Type("weight", (4, 4, 3, 3))
    for types, reason in (
        ([w, w], "operand x is a weight, not a map"),
        ([x, x], "operand w is a map, not a weight or a constant"),
        ([Type("map", (1, 4)), w], "operand x has rank 2, not 4"),
    ):
        with pytest.raises(VerifyError) as error:
            OPCODES["cross_correlation"].infer(types, PLAIN)
        assert error.value.what == reason


def test_gaps_need_a_literal_kernel() -> None:
    text = TEXT.replace("1, 3, 3]", "1, 3, K_w]")
    with pytest.raises(VerifyError, match=r"gaps \(1, 2\) need a literal kernel size"):
        parse(text.format("(1, (1, 2))", ""))
    parse(text.format("(1, 2)", ""))
