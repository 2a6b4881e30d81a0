"""Values that are moved, repeated or converted, for TVM: a function each, same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx
from tvm.te import Tensor

from gos_fx.ir.types import axis_index
from gos_fx.kernels.te_instructions import const, instruction, pointwise, shape_of

# Where an index outside of an axis reads instead.
_PLACES: dict[str, Callable[[Any, int], Any]] = {
    "reflect": lambda i, n: tirx.min(tirx.abs(i), 2 * (n - 1) - tirx.abs(i)),
    "replicate": lambda i, n: tirx.max(tirx.min(i, n - 1), 0),
    "circular": lambda i, n: tirx.floormod(i, tirx.const(n, "int32")),
}


@instruction
def pad(x: Tensor, *, amounts: tuple[int, ...], mode: str, name: str) -> Tensor:
    shape = shape_of(x)
    before, after = amounts[::2], amounts[1::2]
    grid = [b + n + a for b, n, a in zip(before, shape, after, strict=True)]

    def element(*i: Any) -> Any:
        index = [j - b if b else j for j, b in zip(i, before)]
        moved = [b > 0 or a > 0 for b, a in zip(before, after)]
        if mode != "zeros":
            place = _PLACES[mode]
            return x(*(place(j, n) if m else j for j, n, m in zip(index, shape, moved)))
        conditions = []
        for j, n, outside in zip(index, shape, moved):
            conditions += [j >= 0, j < n] if outside else []
        inner = x(*index)
        if not conditions:
            return inner
        return tirx.if_then_else(tirx.all(*conditions), inner, const(0, x))

    return te.compute(grid, element, name=name)


@instruction
def slice_(
    x: Tensor, *, axis: int, start: int, step: int, size: int, name: str
) -> Tensor:
    shape = (*shape_of(x)[:axis], size, *shape_of(x)[axis + 1 :])
    return te.compute(
        shape,
        lambda *i: x(*i[:axis], i[axis] * step + start, *i[axis + 1 :]),
        name=name,
    )


@instruction
def flip(x: Tensor, *, axis: str, name: str) -> Tensor:
    shape = shape_of(x)
    at = axis_index(axis, len(shape))
    last = shape[at] - 1
    return te.compute(
        shape, lambda *i: x(*i[:at], last - i[at], *i[at + 1 :]), name=name
    )


@instruction
def gather(table: Tensor, indices: Tensor, *, name: str) -> Tensor:
    """Indices outside of the table read its ends: nothing else is there to read"""
    rows, columns = shape_of(table)

    def element(*i: Any) -> Any:
        low, high = (tirx.const(v, indices.dtype) for v in (0, rows - 1))
        row = tirx.max(tirx.min(indices(*i[:-1]), high), low)
        return table(tirx.Cast("int32", row), i[-1])

    return te.compute((*shape_of(indices), columns), element, name=name)


@instruction
def cast(x: Tensor, *, dtype: str, name: str) -> Tensor:
    return pointwise(name, lambda v: tirx.Cast(dtype, v), x)


@instruction
def resize(
    x: Tensor,
    *,
    size: tuple[int, int],
    mode: str = "nearest",
    align: bool = False,
    name: str,
) -> Tensor:
    n, c, h, w = shape_of(x)
    if mode == "nearest":
        return te.compute(
            (n, c, *size),
            lambda b, o, i, j: x(b, o, i * h // size[0], j * w // size[1]),
            name=name,
        )

    def element(b: Any, o: Any, i: Any, j: Any) -> Any:
        top, below, down = _between(i, h, size[0], align, x)
        left, right, along = _between(j, w, size[1], align, x)
        one = const(1.0, x)

        def row(at: Any) -> Any:
            return x(b, o, at, left) * (one - along) + x(b, o, at, right) * along

        return row(top) * (one - down) + row(below) * down

    return te.compute((n, c, *size), element, name=name)


def _between(i: Any, have: int, want: int, align: bool, x: Tensor) -> tuple[Any, ...]:
    """The neighbours that element ``i`` of ``want`` lies between, and the share of the
    second one. Ends lie on ends (``align``), or pixels are squares that fill the image.
    """
    if align:
        whole = max(1, want - 1)
        place = i * (have - 1 if want > 1 else 0)
    else:
        whole = 2 * want
        place = tirx.max((2 * i + 1) * have - want, 0)
    first = tirx.floordiv(place, tirx.const(whole, "int32"))
    rest = tirx.floormod(place, tirx.const(whole, "int32"))
    share = tirx.Cast(x.dtype, rest) * const(1.0 / whole, x)
    return tirx.min(first, have - 1), tirx.min(first + 1, have - 1), share
