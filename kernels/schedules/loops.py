"""Loops written down one by one, for rules that do not transform a loop nest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.ir import StringImm
from tvm.s_tir import SBlock, SBlockRealize
from tvm.tirx import AttrStmt, Evaluate, For, ForKind, IfThenElse, PrimFunc, SeqStmt

_ONCE = """\
define void @gos_once() {
  call void asm sideeffect "", ""() #0
  ret void
}
attributes #0 = { noduplicate nounwind }
"""


def once() -> Any:
    """A statement of no effect that LLVM does not copy: it unrolls no loop around it.

    The code of a tile is long enough, and LLVM needs minutes for copies of it.
    """
    return call_llvm("gos_once", _ONCE, [])


def call_llvm(name: str, module: str, arguments: Sequence[Any]) -> Any:
    """A call of a function of a module of LLVM, which becomes part of the caller."""
    call = Evaluate(tirx.call_extern("void", name, *arguments))
    return AttrStmt(const(0), "pragma_import_llvm", StringImm(module), call)


def const(value: int) -> Any:
    return tirx.const(value, "int32")


def sequence(statements: Sequence[Any]) -> Any:
    return statements[0] if len(statements) == 1 else SeqStmt(list(statements))


def loop(
    name: str,
    begin: Any,
    end: Any,
    body: Callable[[Any], Sequence[Any]],
    kind: ForKind = ForKind.SERIAL,
) -> Any:
    """``for name in range(begin, end): body(name)``"""
    variable = tirx.Var(name, "int32")
    extent = end - begin
    first, count = (const(x) if isinstance(x, int) else x for x in (begin, extent))
    return For(variable, first, count, kind, sequence(body(variable)))


def cases(found: Sequence[tuple[Any, Sequence[Any]]]) -> Any:
    """The statements behind the first condition that holds; the last one does."""
    chosen = sequence(found[-1][1])
    for condition, statements in reversed(found[:-1]):
        chosen = IfThenElse(condition, sequence(statements), chosen)
    return chosen


def written(parameters: Sequence[Any], body: Any) -> PrimFunc:
    """A function of buffers, in the form that a schedule would have."""
    root = SBlockRealize([], True, SBlock([], [], [], "root", body))
    attributes = {"global_symbol": "main", "s_tir": True, "tirx.noalias": True}
    return PrimFunc(list(parameters), root).with_attrs(attributes)
