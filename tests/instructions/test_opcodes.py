"""Every instruction against a formula in numpy, its shape rule and its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.errors import VerifyError
from gos_fx.ir.dim import symbol
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.types import Type

Array = np.ndarray[Any, Any]
MAP, SMALL = (2, 4, 5, 6), (2, 3, 4)


def windows(x: Array, kernel: Any, stride: Any, padding: Any, fill: float) -> Array:
    """[N, C, H, W] -> [N, C, H', W', K_h, K_w]."""
    top, bottom, left, right = padding
    pads = ((0, 0), (0, 0), (top, bottom), (left, right))
    x = np.pad(x, pads, constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1]]


def correlate(
    x: Array, w: Array, *, stride: Any, dilation: Any, groups: int, padding: Any
) -> Array:
    (outputs, per_group, kh, kw), (dh, dw) = w.shape, dilation
    reach = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    view = windows(x, reach, stride, padding, 0.0)[..., ::dh, ::dw]
    maps = []
    for o in range(outputs):
        first = o // (outputs // groups) * per_group
        mine = view[:, first : first + per_group]
        maps.append(np.einsum("ncijkl,ckl->ncij", mine, w[o]))
    return np.stack(maps, 1)


def average(
    x: Array, *, kernel: Any, stride: Any, include_pad: bool, padding: Any
) -> Array:
    total = windows(x, kernel, stride, padding, 0.0).sum((-1, -2))
    if include_pad:
        return total / math.prod(kernel)
    inside = windows(np.ones_like(x), kernel, stride, padding, 0.0)
    return total / inside.sum((-1, -2))


def nearest(x: Array, *, size: tuple[int, int]) -> Array:
    rows = [i * x.shape[2] // size[0] for i in range(size[0])]
    columns = [j * x.shape[3] // size[1] for j in range(size[1])]
    return x[:, :, rows][:, :, :, columns]


def normalised(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def channels(b: Array) -> Array:
    return b[:, None, None]


@dataclass
class Case:
    """Operand shapes by role, attributes, and the formula."""

    shapes: list[tuple[str, tuple[int, ...]]]
    formula: Callable[..., Array]
    attributes: dict[str, Any] = field(default_factory=dict)
    positive: bool = False
    differentiable: bool = True


def maps(*shapes: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return [("map", shape) for shape in shapes]


def correlation(
    w: tuple[int, ...],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    padding: tuple[int, ...] = (0, 0, 0, 0),
) -> Case:
    attributes = {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "padding": padding,
    }
    return Case([("map", MAP), ("weight", w)], correlate, attributes)


def pool(include_pad: bool | None, stride: int, padding: tuple[int, ...]) -> Case:
    attributes: dict[str, Any] = {"kernel": (3, 2), "stride": (stride, stride)}
    if include_pad is None:

        def largest(x: Array, *, kernel: Any, stride: Any, padding: Any) -> Array:
            return windows(x, kernel, stride, padding, -np.inf).max((-1, -2))

        return Case(maps(MAP), largest, attributes | {"padding": padding})
    attributes |= {"include_pad": include_pad, "padding": padding}
    return Case(maps(MAP), average, attributes)


def over(function: Any, axis: str, index: int, shape: tuple[int, ...]) -> Case:
    return Case(maps(shape), lambda x, axis: function(x, index), {"axis": axis})


def several(function: Callable[..., Array]) -> Case:
    return Case(maps(MAP, MAP, MAP), lambda *v, axis: function(*v), {"axis": ""})


BIAS = [("map", MAP), ("weight", (4,))]
FIVE = (2, 3, 4, 2, 3)
CASES: dict[str, list[Case]] = {
    "add": [
        Case(maps(MAP, MAP), lambda a, b: a + b),
        Case(BIAS, lambda a, b: a + channels(b)),
        Case([("map", SMALL), ("weight", (4,))], lambda a, b: a + b),
        Case([("weight", (4,)), ("map", MAP)], lambda b, a: a + channels(b)),
    ],
    "sub": [
        Case(maps(MAP, MAP), lambda a, b: a - b),
        Case([("weight", (4,)), ("map", MAP)], lambda b, a: channels(b) - a),
    ],
    "hadamard": [Case(BIAS, lambda a, b: a * channels(b))],
    "div": [Case(BIAS, lambda a, b: a / channels(b), positive=True)],
    "sqrt": [Case(maps(MAP), np.sqrt, positive=True)],
    "exp": [Case(maps(MAP), np.exp)],
    "relu": [
        Case(maps(MAP), lambda x, slope: np.maximum(x, 0), {"slope": 0.0}),
        Case(maps(MAP), lambda x, slope: np.where(x > 0, x, x / 10), {"slope": 0.1}),
    ],
    "sigmoid": [Case(maps(MAP), lambda x: 1 / (1 + np.exp(-x)))],
    "tanh": [Case(maps(MAP), np.tanh)],
    "softmax": [
        Case(maps(MAP), lambda x, axis: normalised(x, 1), {"axis": "co"}),
        Case(maps(SMALL), lambda x, axis: normalised(x, 2), {"axis": "co"}),
    ],
    "matmul": [
        Case([("map", (3, 4)), ("weight", (4, 5))], lambda a, b: a @ b),
        Case([("map", (2, 3, 4)), ("weight", (4, 5))], lambda a, b: a @ b),
        Case(maps((2, 3, 4), (2, 4, 5)), lambda a, b: np.einsum("bik,bkj->bij", a, b)),
        Case([("weight", (3, 4)), ("map", (2, 4, 5))], lambda a, b: a @ b),
    ],
    "cross_correlation": [
        correlation((3, 4, 3, 3), padding=(1, 1, 1, 1)),
        correlation((6, 2, 2, 3), groups=2, stride=(2, 1), padding=(0, 1, 2, 1)),
        correlation((8, 1, 3, 1), groups=4, dilation=(2, 3)),
    ],
    "max_pool": [pool(None, 1, (0, 0, 0, 0)), pool(None, 2, (1, 0, 0, 1))],
    "avg_pool": [
        pool(True, 2, (1, 1, 1, 0)),
        pool(False, 2, (1, 1, 1, 0)),
        pool(False, 1, (0, 0, 0, 0)),
    ],
    "sum": [over(np.sum, "ci", 2, FIVE), several(lambda a, b, c: a + b + c)],
    "mean": [over(np.mean, "t", 1, SMALL), several(lambda a, b, c: (a + b + c) / 3)],
    "max": [
        over(np.max, "wo", 3, MAP),
        several(lambda a, b, c: np.maximum(a, np.maximum(b, c))),
    ],
    "min": [
        over(np.min, "co", 1, FIVE),
        several(lambda a, b, c: np.minimum(a, np.minimum(b, c))),
    ],
    "weighted_mean": [
        Case(
            [("map", FIVE), ("weight", (4,))],
            lambda x, w, axis: np.einsum("nocij,c->noij", x, w) / w.sum(),
            {"axis": "ci"},
            positive=True,
        )
    ],
    "concat": [
        Case(
            maps(MAP, (2, 3, 5, 6)),
            lambda a, b, axis: np.concatenate([a, b], 1),
            {"axis": "co"},
        )
    ],
    "reshape": [
        Case(maps(MAP), lambda x, shape: x.reshape(shape), {"shape": (2, 120)})
    ],
    "transpose": [
        Case(maps(SMALL), lambda x, axes: x.transpose(axes), {"axes": (0, 2, 1)})
    ],
    "resize": [Case(maps(MAP), nearest, {"size": (7, 4)})],
    "tile": [Case(maps(MAP), lambda x, co, wo: x, {"co": 2, "wo": 3})],
    "unroll": [Case(maps(MAP), lambda x, ci: x, {"ci": 2})],
}
ALL = [
    pytest.param(name, case, id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]


def operands(case: Case, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for _, shape in case.shapes
    ]
    return [v.abs() + 0.3 for v in values] if case.positive else values


def test_every_instruction_has_a_formula() -> None:
    assert set(CASES) == set(OPCODES)


@pytest.mark.parametrize(("name", "case"), ALL)
def test_reference_is_the_formula(name: str, case: Case) -> None:
    opcode, values = OPCODES[name], operands(case)
    arrays = [v.double().numpy() for v in values]
    expected = case.formula(*arrays, **case.attributes)
    found = opcode.reference(*values, **case.attributes).double().numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= opcode.rtol * np.abs(expected).max()


@pytest.mark.parametrize(("name", "case"), ALL)
def test_shape_rule_is_that_of_the_reference(name: str, case: Case) -> None:
    types = [Type(role, shape) for role, shape in case.shapes]
    result = OPCODES[name].infer(types, case.attributes)
    meta = [torch.empty(shape, device="meta") for _, shape in case.shapes]
    found = OPCODES[name].reference(*meta, **case.attributes)
    assert result == Type("map", tuple(found.shape))


@pytest.mark.parametrize(("name", "case"), ALL)
def test_gradients(name: str, case: Case) -> None:
    values = [v.requires_grad_() for v in operands(case, torch.float64)]
    reference = OPCODES[name].reference
    assert torch.autograd.gradcheck(
        lambda *v: reference(*v, **case.attributes), values, fast_mode=True
    )


def flops(name: str, types: list[Type], attributes: dict[str, Any]) -> Any:
    opcode = OPCODES[name]
    return opcode.flops(opcode.infer(types, attributes), *types, **attributes)


@pytest.mark.parametrize("case", CASES["matmul"][:3])
def test_flops_of_matmul(case: Case) -> None:
    with FlopCounterMode(display=False) as counter:
        torch.matmul(*operands(case))
    types = [Type(role, shape) for role, shape in case.shapes]
    assert flops("matmul", types, {}) == counter.get_total_flops()


@pytest.mark.parametrize("case", CASES["cross_correlation"])
def test_flops_of_convolution(case: Case) -> None:
    """Products and their sum over the channels; the counter counts both as one."""
    opcode = OPCODES["cross_correlation"]
    assert opcode.summed is not None
    with FlopCounterMode(display=False) as counter:
        total = opcode.summed(*operands(case), None, **case.attributes)
    types = [Type(role, shape) for role, shape in case.shapes]
    assert flops("cross_correlation", types, case.attributes) == (
        counter.get_total_flops()
    )
    maps = opcode.reference(*operands(case), **case.attributes)
    torch.testing.assert_close(maps.sum(2), total)


def test_schedules_and_moves_are_free() -> None:
    x = Type("map", MAP)
    for name in ("tile", "unroll", "reshape", "transpose", "resize", "concat"):
        case = CASES[name][0]
        types = [Type(role, shape) for role, shape in case.shapes]
        assert flops(name, types, case.attributes) == 0
    assert flops("add", [x, x], {}) == math.prod(MAP)
    assert flops("sum", [Type("map", FIVE)], {"axis": "ci"}) == math.prod(FIVE)


def test_symbolic_shapes() -> None:
    n, c, m, h, w = (symbol(s) for s in ("N", "C_in", "C_out", "H", "W"))
    x, kernel = Type("map", (n, c, h, w)), Type("weight", (m, c // 4, 3, 3))
    site = {"stride": (symbol("S_h"), symbol("S_w")), "dilation": (1, 1), "groups": 4}
    found = OPCODES["cross_correlation"].infer([x, kernel], site)
    assert str(found) == "map[N, C_out, C_in // 4, H_out, W_out]"
    own = {"kernel": (3, 3), "stride": (2, 1)}
    assert str(OPCODES["max_pool"].infer([x], own)) == "map[N, C_in, ceildiv(H, 2), W]"


@pytest.mark.parametrize(
    ("name", "shapes", "attributes", "reason"),
    [
        ("add", [MAP, (2, 4, 5, 7)], {}, "do not fit"),
        ("add", [MAP, (5,)], {}, "do not fit"),
        ("matmul", [(3, 4), (5, 6)], {}, "cannot be multiplied"),
        ("matmul", [(2, 3, 4), (3, 4, 5)], {}, "batches"),
        ("sum", [MAP], {"axis": ""}, "one value with an axis"),
        ("sum", [MAP, MAP], {"axis": "co"}, "one value with an axis"),
        ("concat", [MAP, (2, 4, 5, 7)], {"axis": "co"}, "differ off the axis"),
        ("concat", [MAP, SMALL], {"axis": "co"}, "cannot be concatenated"),
        ("reshape", [MAP], {"shape": (2, 7)}, "cannot take the shape"),
        ("resize", [SMALL], {"size": (2, 2)}, "operand x has rank 3, not 4"),
    ],
)
def test_operands_that_do_not_fit(
    name: str, shapes: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    types = [Type("map" if len(s) > 1 else "weight", s) for s in shapes]
    with pytest.raises(VerifyError, match=reason):
        OPCODES[name].infer(types, attributes)
