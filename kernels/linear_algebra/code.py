"""Loops and assignments written down as in Python, for what is no loop nest.

``a[i, j] = a[i, j] - x`` on an :class:`Array` is a statement of the code that the array
belongs to; ``with code.loop(..)`` and ``with code.when(..)`` open loops and branches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx import (
    AllocBuffer,
    Bind,
    BufferLoad,
    BufferStore,
    For,
    ForKind,
    SeqStmt,
)

FLOAT = "float32"
# Distance of 1 to the next number in float32.
EPS = 2.0**-23


def real(value: float) -> Any:
    return tirx.const(value, FLOAT)


def whole(value: int) -> Any:
    return tirx.const(value, "int32")


def sign(x: Any) -> Any:
    """1 or -1; 1 of zero."""
    return tirx.Select(x < real(0.0), real(-1.0), real(1.0))


class Code:
    """Statements in the order in which they are written down."""

    def __init__(self) -> None:
        self._open: list[list[Any]] = [[]]

    @property
    def body(self) -> Any:
        """All statements, when every loop and branch is closed."""
        (statements,) = self._open
        return _sequence(statements)

    def do(self, statement: Any) -> None:
        self._open[-1].append(statement)

    def array(self, name: str, *shape: int, dtype: str = FLOAT) -> Array:
        """Memory of its own, alive to the end of the loop or branch."""
        buffer = tirx.decl_buffer(shape or (1,), dtype, name)
        self.do(AllocBuffer(buffer))
        return Array(self, buffer, shape)

    def number(self, name: str, value: Any) -> Array:
        """A number that changes, read and written as ``x[()]``."""
        found = self.array(name, dtype=str(value.ty.dtype))
        found[()] = value
        return found

    def keep(self, name: str, value: Any) -> Any:
        """The value as it is now, computed once."""
        variable = tirx.Var(name, value.ty)
        self.do(Bind(variable, value))
        return variable

    @contextmanager
    def loop(
        self, begin: Any, end: Any, kind: ForKind = ForKind.SERIAL
    ) -> Iterator[Any]:
        """``for i in range(begin, end)``"""
        first, last = (whole(x) if isinstance(x, int) else x for x in (begin, end))
        index = tirx.Var("i", "int32")
        with self._block() as body:
            yield index
        self.do(For(index, first, last - first, kind, _sequence(body)))

    @contextmanager
    def down(self, extent: int) -> Iterator[Any]:
        """``for i in reversed(range(extent))``"""
        with self.loop(0, extent) as i:
            yield self.keep("down", whole(extent - 1) - i)

    @contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        with self._block() as body:
            yield
        self.do(tirx.IfThenElse(condition, _sequence(body), None))

    @contextmanager
    def _block(self) -> Iterator[list[Any]]:
        """The statements that are written inside; none where that raises."""
        body: list[Any] = []
        self._open.append(body)
        yield body
        self._open.pop()

    @contextmanager
    def cells(self, a: Array) -> Iterator[tuple[Any, ...]]:
        """Loops over all indices of an array."""
        with ExitStack() as loops:
            yield tuple([loops.enter_context(self.loop(0, n)) for n in a.shape])

    def sum(self, name: str, begin: Any, end: Any, term: Any) -> Any:
        """``sum(term(i) for i in range(begin, end))``, one after the other."""
        total = self.number(name, real(0.0))
        with self.loop(begin, end) as i:
            total[()] = total[()] + term(i)
        return self.keep(f"{name}_all", total[()])

    def swap_rows(self, a: Array, one: Any, other: Any) -> None:
        with self.loop(0, a.shape[-1]) as j:
            kept = self.keep("kept", a[one, j])
            a[one, j] = a[other, j]
            a[other, j] = kept


def _sequence(statements: list[Any]) -> Any:
    return statements[0] if len(statements) == 1 else SeqStmt(statements)


@dataclass(frozen=True)
class Array:
    """Row-major numbers; a number alone has the shape ``()``."""

    code: Code
    buffer: Any
    shape: tuple[int, ...]

    def __getitem__(self, index: Any) -> Any:
        return BufferLoad(self.buffer, self._full(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.code.do(BufferStore(self.buffer, value, self._full(index)))

    @staticmethod
    def _full(index: Any) -> list[Any]:
        indices = list(index) if isinstance(index, tuple) else [index]
        return [whole(i) if isinstance(i, int) else i for i in indices or [0]]


def unit_matrix(code: Code, name: str, rows: int, columns: int) -> Array:
    found = code.array(name, rows, columns)
    with code.cells(found) as (i, j):
        found[i, j] = tirx.Select(tirx.EQ(i, j), real(1.0), real(0.0))
    return found
