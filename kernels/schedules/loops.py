"""Loops written down one by one, for rules that do not transform a loop nest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tvm import tirx
from tvm.ir import StringImm
from tvm.s_tir import SBlock, SBlockRealize
from tvm.tirx import (
    AttrStmt,
    Bind,
    Evaluate,
    For,
    ForKind,
    IfThenElse,
    PrimFunc,
    SeqStmt,
)

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


def by_lane(width: int, body: Callable[[Any], Sequence[Any]]) -> Any:
    """The statements of each lane of a vector."""
    if width == 1:
        return sequence(body(const(0)))
    return loop("lane", 0, width, body, ForKind.VECTORIZED)


def vectors(extent: int, widest: int) -> Iterator[tuple[int, int, int]]:
    """(first, count, width) of vectors that make up an axis: the widest, then smaller
    ones, each a power of two."""
    first, width = 0, 1 << (widest.bit_length() - 1)
    while first < extent:
        if count := (extent - first) // width:
            yield first, count, width
            first += count * width
        width //= 2


def groups(
    extent: int,
    widest: int,
    body: Callable[[Any, int], Sequence[Any]],
    kind: ForKind = ForKind.SERIAL,
) -> list[Any]:
    """An axis vector by vector: ``body(first, width)``."""
    found: list[Any] = []
    for first, count, width in vectors(extent, widest):
        if count == 1:
            found += body(const(first), width)
            continue

        def one(b: Any, first: int = first, width: int = width) -> Sequence[Any]:
            return body(const(first) + b * const(width), width)

        found.append(loop("b", 0, count, one, kind))
    return found


def over(
    extent: int,
    widest: int,
    body: Callable[[Any, Any], Sequence[Any]],
    kind: ForKind = ForKind.SERIAL,
) -> list[Any]:
    """The elements of an axis in vectors: ``body(first of the vector, lane)``."""

    def vector(first: Any, width: int) -> list[Any]:
        return [by_lane(width, lambda lane: body(first, lane))]

    return groups(extent, widest, vector, kind)


def bound(found: list[Any], name: str, value: Any) -> Any:
    """A variable for a value, which is computed in the statements ``found``."""
    variable = tirx.Var(name, value.ty)
    found.append(Bind(variable, value))
    return variable


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
