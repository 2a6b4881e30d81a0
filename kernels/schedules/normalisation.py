"""A row that is divided by something that all of it decides: softmax, layer norm."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Protocol

from tvm import tirx
from tvm.tirx import Bind, BufferLoad, BufferStore

from gos_fx.ir.graph import Node
from gos_fx.kernels import elementary
from gos_fx.kernels.extremes import larger
from gos_fx.kernels.schedules.element import Element
from gos_fx.kernels.schedules.loops import const, over
from gos_fx.kernels.schedules.sums import Sums


class Rows(Protocol):
    """What is known of the kernel; see ``reduction``."""

    @property
    def anchor(self) -> Node: ...
    @property
    def element(self) -> Element: ...
    @property
    def extent(self) -> int: ...
    @property
    def widest(self) -> int: ...

    def put(self, index: Sequence[Any], value: Any) -> Any: ...


def softmax(rows: Rows, index: list[Any], sums: Sums) -> list[Any]:
    """The maximum; the powers and their sum; the quotients."""
    out = rows.element.buffers[-1]
    largest = tirx.Var("largest", "float32")
    share = tirx.Var("share", "float32")
    read = rows.element.reads[0]

    def x(k: Any) -> Any:
        return read.at(*index, k, k)

    def power(k: Any) -> list[Any]:
        return [BufferStore(out, elementary.exp(x(k) - largest), [*index, k])]

    def kept(k: Any) -> Any:
        return BufferLoad(out, [*index, k])

    def quotient(first: Any, lane: Any) -> list[Any]:
        at = [*index, first + lane]
        return [rows.put(at, BufferLoad(out, at) * share)]

    return [
        *sums.over(rows.extent, larger, float("-inf"), x),
        Bind(largest, sums.at(const(0))),
        *sums.over(rows.extent, operator.add, 0.0, kept, also=power),
        Bind(share, tirx.const(1.0, "float32") / sums.at(const(0))),
        *over(rows.extent, rows.widest, quotient),
    ]


def layer_norm(rows: Rows, index: list[Any], sums: Sums) -> list[Any]:
    """The mean; the variance; the quotients times gain, plus shift."""
    anchor = rows.anchor
    read, *gains = rows.element.reads
    portion = tirx.const(1.0 / rows.extent, "float32")
    mean, share = tirx.Var("mean", "float32"), tirx.Var("share", "float32")

    def x(k: Any) -> Any:
        return read.at(*index, k, k)

    def square(k: Any) -> Any:
        return (x(k) - mean) * (x(k) - mean)

    def quotient(first: Any, lane: Any) -> list[Any]:
        k = first + lane
        value = (x(k) - mean) * share
        if gains:
            value = value * gains[0].at(k)
        if len(gains) > 1:
            value = value + gains[1].at(k)
        return [rows.put([*index, k], value)]

    variance = sums.at(const(0)) * portion + tirx.const(anchor.attr("eps"), "float32")
    return [
        *sums.over(rows.extent, operator.add, 0.0, x),
        Bind(mean, sums.at(const(0)) * portion),
        *sums.over(rows.extent, operator.add, 0.0, square),
        Bind(share, tirx.const(1.0, "float32") / tirx.sqrt(variance)),
        *over(rows.extent, rows.widest, quotient),
    ]
