"""The larger and the smaller of two numbers, where either is NaN: NaN, as torch has it.

TVM's own ``max(a, b)`` is ``a > b ? a : b``, which gives b where a is NaN. ARM's
``fmax`` keeps both. On x86 the plain form is one instruction and is enough where ``a``
is a number known beforehand; else NaN is asked for by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import te, tirx
from tvm.ir import register_op_attr
from tvm.tirx import CallEffectKind, register_intrin_lowering

_MAXIMUM, _MINIMUM = "tirx.gos_fx_maximum", "tirx.gos_fx_minimum"
_LARGER = "tirx.gos_fx_larger"
# Of what stands in it LLVM knows nothing: it makes two instructions of the plain form
# where it sees a zero in it, and three where it sees two comparisons.
_UNSEEN = "llvm.arithmetic.fence"
Pair = Callable[[Any, Any], Any]


def maximum(a: Any, b: Any) -> Any:
    """The larger one; a number that is known beforehand comes first."""
    return _call(_MAXIMUM, tirx.max, a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller one; a number that is known beforehand comes first."""
    return _call(_MINIMUM, tirx.min, a, b)


def larger(a: Any, b: Any) -> Any:
    """:func:`maximum` in one instruction everywhere: on x86 it is b where a is NaN."""
    return _call(_LARGER, tirx.max, a, b)


def _call(name: str, plain: Pair, a: Any, b: Any) -> Any:
    if not str(a.ty).startswith("float"):
        return plain(a, b)
    return tvm.ir.Call(name, [a, b], ret_ty=a.ty)


def _unseen(x: Any) -> Any:
    return tirx.call_llvm_pure_intrin(x.ty, _UNSEEN, x)


def _is_number(x: Any) -> bool:
    x = x.value if isinstance(x, tirx.Broadcast) else x
    return isinstance(x, tirx.FloatImm)


def _declare(name: str, plain: Pair, on_arm: str, *, keeps_both: bool = True) -> None:
    tvm.ir._ffi_api.RegisterOp(name, "An extreme that is NaN where an operand is")
    register_op_attr(name, "TCallEffectKind", CallEffectKind.Pure.value)
    register_op_attr(name, "TVectorizable", True)

    def written(call: Any) -> Any:
        a, b = call.args
        if _is_number(a):
            return plain(_unseen(a), b)
        if not keeps_both:
            return plain(a, b)
        # Written once: nested ones would double it with each level.
        first = tirx.Var("first", a.ty)
        found = _unseen(plain(first, b))
        return tirx.Let(first, a, tirx.Select(tirx.isnan(first), first, found))

    def one_instruction(call: Any) -> Any:
        return tirx.call_llvm_pure_intrin(call.ty, on_arm, *call.args)

    register_intrin_lowering(name, target="default", f=written)
    register_intrin_lowering(name, target="llvm.aarch64", f=one_instruction)


_declare(_MAXIMUM, tirx.max, "llvm.maximum")
_declare(_MINIMUM, tirx.min, "llvm.minimum")
_declare(_LARGER, tirx.max, "llvm.maximum", keeps_both=False)
largest = te.comm_reducer(maximum, te.min_value, name="largest")
smallest = te.comm_reducer(minimum, te.max_value, name="smallest")
largest_number = te.comm_reducer(larger, te.min_value, name="largest_number")
