"""What instructions refuse, with the reason; and bad matrices, which they take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.errors import VerifyError
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.types import Type, bundle

MAP, SEQUENCE = (2, 4, 5, 6), (2, 3, 4)
INDICES = Type("map", (2, 3), "int64")


def refusal(name: str, values: list[Any], attributes: dict[str, Any]) -> str:
    types = [
        v if isinstance(v, Type) else Type("map" if len(v) > 1 else "weight", v)
        for v in values
    ]
    with pytest.raises(VerifyError) as caught:
        OPCODES[name].infer(types, attributes)
    return caught.value.what


@pytest.mark.parametrize(
    ("name", "values", "attributes", "reason"),
    [
        ("add", [MAP, (2, 4, 5, 7)], {},
         "shapes of map[2, 4, 5, 6] and map[2, 4, 5, 7] do not fit"),
        ("add", [MAP, (5,)], {}, "shapes of map[2, 4, 5, 6] and weight[5] do not fit"),
        ("add", [MAP, bundle([INDICES, INDICES])], {},
         "operand b is a bundle of 2: take one with result()"),
        ("add", [MAP, Type("map", MAP, "float64")], {}, "operands differ in dtype"),
        ("add", [INDICES, INDICES], {},
         "operand a has dtype int64, not float32 or float16 or float64"),
        ("sqrt", [MAP, MAP], {}, "sqrt takes 1 operands, not 2"),
        ("matmul", [(3, 4), (5, 6)], {},
         "map[3, 4] and map[5, 6] cannot be multiplied"),
        ("matmul", [(2, 3, 4), (3, 4, 5)], {},
         "the batches of map[2, 3, 4] and map[3, 4, 5] differ"),
        ("matmul", [MAP, (6,)], {}, "operand b has rank 1, not 2 or 3 or 4 or 5"),
        ("matvec", [(3, 4), (5,)], {}, "map[3, 4] and weight[5] cannot be multiplied"),
        ("dot", [(3, 4), (5,)], {}, "map[3, 4] and weight[5] cannot be multiplied"),
        ("dot", [(3, 4), (2, 4)], {}, "the batches of map[3, 4] and map[2, 4] differ"),
        ("outer", [(3, 4), Type("scalar", ())], {},
         "operand b is a scalar, not a map or a weight or a constant"),
        ("kron", [(2, 3, 4), (3, 3, 4)], {},
         "the batches of map[2, 3, 4] and map[3, 3, 4] differ"),
        *((name, [SEQUENCE], {}, "map[2, 3, 4] is not square")
          for name in ("inverse", "det", "cholesky", "eigh", "trace")),
        ("svd", [Type("map", (4, 4), "float16")], {},
         "operand x has dtype float16, not float32 or float64"),
        ("vector_norm", [MAP], {"ord": "3", "axis": "co"},
         "ord='3' is none of 1, 2, inf"),
        ("vector_norm", [MAP], {"ord": "2", "axis": "t"},
         "a value of rank 4 has no axis 't'"),
        ("matrix_norm", [MAP], {"ord": "fro"},
         "ord='fro' is none of 1, 2, inf, nuclear"),
        ("identity", [], {"size": 0}, "size=0 is below 1"),
        ("zeros", [], {"shape": ()}, "zeros have an axis"),
        ("zeros", [], {"shape": (2, 0)}, "shape=(2, 0) is below 1"),
        ("relu", [MAP], {"slope": 1.5}, "slope=1.5 is above 1"),
        ("relu", [MAP], {"slope": -0.1}, "slope=-0.1 is below 0"),
        ("relu", [MAP], {"slope": float("nan")}, "slope=nan is not a real"),
        ("max_pool", [MAP], {"kernel": (0, 2), "stride": (1, 1)},
         "kernel=(0, 2) is below 1"),
        ("max_pool", [MAP], {"kernel": (3,), "stride": (1, 1)},
         "kernel=(3,) has not 2 entries"),
        ("avg_pool", [MAP], {"kernel": (3, 2), "stride": (1, 0), "include_pad": True},
         "stride=(1, 0) is below 1"),
        ("max_pool", [SEQUENCE], {"kernel": (2, 2), "stride": (1, 1)},
         "operand x has rank 3, not 4"),
        ("gradient", [(2, 3, 4, 5, 6)], {}, "operand x has rank 5, not 2 or 3 or 4"),
        ("partial_derivative", [SEQUENCE], {"axis": "wo"},
         "a value of rank 3 has no axis 'wo'"),
        ("density", [MAP, (4,), (4,)], {"distribution": "cauchy"},
         "distribution='cauchy' is none of normal, laplace, logistic"),
        ("density", [MAP, (5,), (4,)], {"distribution": "normal"},
         "shapes of map[2, 4, 5, 6] and weight[5] do not fit"),
        ("posterior", [MAP, (4,)], {"axis": "t"}, "a value of rank 4 has no axis 't'"),
        ("sum", [MAP], {"axis": ""},
         "one value with an axis, or several values without one"),
        ("sum", [MAP, MAP], {"axis": "co"},
         "one value with an axis, or several values without one"),
        ("max", [MAP, MAP], {"axis": "", "keep": True},
         "several values have no axis to keep"),
        ("mean", [MAP], {"axis": "co", "keep": 1}, "keep=1 is not a flag"),
        ("weighted_mean", [MAP, (5,)], {"axis": "co"},
         "the mean of map[2, 4, 5, 6] over co needs weight[4]"),
        ("weighted_mean", [(3, 4), Type("map", (4,))], {"axis": "co"},
         "operand w is a map, not a weight or a constant"),
        ("concat", [MAP, (2, 4, 5, 7)], {"axis": "co"},
         "map[2, 4, 5, 7] and map[2, 4, 5, 6] differ off the axis co"),
        ("concat", [MAP, SEQUENCE], {"axis": "co"},
         "map[2, 3, 4] and map[2, 4, 5, 6] cannot be concatenated"),
        ("reshape", [MAP], {"shape": (2, 7)},
         "map[2, 4, 5, 6] cannot take the shape ('2', '7')"),
        ("reshape", [MAP], {"shape": (-1, 120)}, "shape=(-1, 120) is below 1"),
        ("reshape", [MAP], {}, "missing attribute shape"),
        ("reshape", [Type("scalar", ())], {"shape": (1, 1)},
         "operand x is a scalar, not a map or a weight or a constant"),
        ("transpose", [SEQUENCE], {"axes": (0, 1)},
         "(0, 1) is no permutation of the axes of map[2, 3, 4]"),
        ("transpose", [SEQUENCE], {"axes": (0, -1, 1)}, "axes=(0, -1, 1) is below 0"),
        ("flip", [SEQUENCE], {"axis": "ho"}, "a value of rank 3 has no axis 'ho'"),
        ("slice", [SEQUENCE], {"axis": 3, "start": 0, "size": 1, "step": 1},
         "map[2, 3, 4] has no axis 3"),
        ("slice", [SEQUENCE], {"axis": 2, "start": 1, "size": 2, "step": 3},
         "element 4 of an axis of 4"),
        ("slice", [SEQUENCE], {"axis": 2, "start": -1, "size": 2, "step": 1},
         "start=-1 is below 0"),
        ("slice", [SEQUENCE], {"axis": 2, "start": 0, "size": 2, "step": 0},
         "step=0 is below 1"),
        ("pad", [SEQUENCE], {"amounts": (0, 1), "mode": "zeros"},
         "map[2, 3, 4] takes 6 amounts, not 2"),
        ("pad", [(3, 4)], {"amounts": (0, 0, 0, -1), "mode": "zeros"},
         "amounts=(0, 0, 0, -1) is below 0"),
        ("pad", [(3, 4)], {"amounts": (0, 0, 4, 0), "mode": "reflect"},
         "reflect of an axis of 4 gives at most 3, not 4"),
        ("pad", [(3, 4)], {"amounts": (0, 0, 0, 5), "mode": "circular"},
         "circular of an axis of 4 gives at most 4, not 5"),
        ("pad", [(3, 4)], {"amounts": (0, 0, 0, 0), "mode": "edge"},
         "mode='edge' is none of zeros, reflect, replicate, circular"),
        ("resize", [SEQUENCE], {"size": (2, 2)}, "operand x has rank 3, not 4"),
        ("resize", [MAP], {"size": (2,)}, "resize takes two sizes, not 1"),
        ("resize", [MAP], {"size": (2, 0)}, "size=(2, 0) is below 1"),
        ("resize", [MAP], {"size": (2, 2), "align": True},
         "nearest has no corners to align"),
        ("gather", [(5, 3), SEQUENCE], {},
         "operand indices has dtype float32, not int64"),
        ("gather", [SEQUENCE, INDICES], {}, "operand table has rank 3, not 2"),
        ("cast", [MAP], {"dtype": "bool"},
         "dtype='bool' is none of float32, float16, float64, int64, int32"),
        ("tanh", [MAP], {"slope": 0.1}, "unknown attribute slope"),
        ("result", [MAP], {"index": 0}, "result takes a bundle, not map[2, 4, 5, 6]"),
        ("result", [bundle([INDICES, INDICES])], {"index": 2}, "result 2 of 2"),
        ("bundle", [MAP, bundle([INDICES, INDICES])], {},
         "a bundle holds values, not bundles"),
    ],
)  # fmt: skip
def test_refusal(
    name: str, values: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    assert refusal(name, values, attributes) == reason


GOOD = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
NAN = torch.tensor([[2.0, float("nan")], [1.0, 3.0]])
INFINITE = torch.tensor([[2.0, 1.0], [float("-inf"), 3.0]])
SINGULAR = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
INDEFINITE = torch.tensor([[1.0, 2.0], [2.0, 1.0]])


def results(name: str, *matrices: Tensor, **attributes: Any) -> list[Tensor]:
    """Of each matrix all results in one vector."""
    found = OPCODES[name].reference(torch.stack(matrices), **attributes)
    parts = found if isinstance(found, tuple) else (found,)
    count = len(matrices)
    return list(torch.cat([y.reshape(count, -1) for y in parts], 1))


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        *((n, {}) for n in ("inverse", "det", "cholesky", "eigh", "svd", "qr", "pinv")),
        ("matrix_rank", {}),
        ("matrix_norm", {"ord": "2"}),
        ("matrix_norm", {"ord": "nuclear"}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_that_is_not_finite(
    name: str, attributes: dict[str, Any], dtype: torch.dtype
) -> None:
    """Every number of its results is none; its neighbours are as they are alone."""
    bad = (NAN.to(dtype), INFINITE.to(dtype))
    first, *others, last = results(
        name, GOOD.to(dtype), *bad, GOOD.to(dtype), **attributes
    )
    assert all(bool(torch.isnan(y).all()) for y in others)
    (alone,) = results(name, GOOD.to(dtype), **attributes)
    assert torch.equal(first, alone) and torch.equal(last, alone)
    assert bool(torch.isfinite(alone).all())


@pytest.mark.parametrize(
    ("name", "matrix"), [("inverse", SINGULAR), ("cholesky", INDEFINITE)]
)
def test_a_matrix_that_has_no_result(name: str, matrix: Tensor) -> None:
    good, bad = results(name, GOOD, matrix)
    assert bool(torch.isfinite(good).all()) and bool(torch.isnan(bad).all())


def test_a_singular_matrix() -> None:
    assert float(results("det", SINGULAR)[0]) == 0
    assert float(results("matrix_rank", SINGULAR)[0]) == 1
    (found,) = results("pinv", SINGULAR)
    torch.testing.assert_close(found.view(2, 2), SINGULAR / 25)


def test_the_rank_does_not_depend_on_the_dtype() -> None:
    """What is rounding in float32 is so in float64."""
    low = torch.randn(6, 2) @ torch.randn(2, 6)
    for dtype in (torch.float32, torch.float64):
        assert float(results("matrix_rank", low.to(dtype))[0]) == 2


def test_an_index_outside_of_the_table() -> None:
    with pytest.raises(IndexError):
        OPCODES["gather"].reference(GOOD, torch.tensor([2]))
