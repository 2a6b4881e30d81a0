"""Several values as one, and one of several."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim
from gos_fx.ir.opcode import instruction
from gos_fx.ir.types import Type
from gos_fx.ir.types import bundle as bundle_type


def _free(out: Type, *types: Type, **_: Any) -> Dim:
    return 0


def _part(value: Type, *, index: int) -> Type:
    if not value.is_bundle:
        raise VerifyError(f"result takes a bundle, not {value}")
    if index >= len(value.parts):
        raise VerifyError(f"result {index} of {len(value.parts)}")
    return value.parts[index]


@instruction(
    category="structure",
    attributes={"index": Attribute("dim", 0, low=0)},
    shape=_part,
    flops=_free,
    moved=_free,
    table1=False,
    takes_bundles=True,
    onnx=lambda b, operands, types, result, attributes: operands[0][
        attributes["index"]
    ],
)
def result(values: tuple[Tensor, ...], /, *, index: int) -> Tensor:
    """y = x_index: one result of an instruction that has several"""
    return values[index]


def _together(*types: Type) -> Type:
    if any(t.is_bundle for t in types):
        raise VerifyError("a bundle holds values, not bundles")
    return bundle_type(types)


@instruction(
    category="structure",
    shape=_together,
    flops=_free,
    moved=_free,
    table1=False,
    variadic=True,
    takes_bundles=True,
    mixed=True,
    onnx=lambda b, operands, *_: tuple(operands),
)
def bundle(*values: Tensor) -> tuple[Tensor, ...]:
    """(x_0, x_1, ...): several values where a graph gives one"""
    return values
