"""Transposed convolutions without the products by the zeros between the elements.

With s - 1 zeros behind each element of x, and P rows in front of them, row s q + i of
the correlation with w is, by the taps that meet no zero,

    y[s q + i] = sum_t w[P - i + s (t + first)] x[q + t + first]

so that all s phases i are one correlation of x itself with filters of every s-th tap,
whose results lie between each other (W. Shi et al. 2016, arXiv:1609.07009). Columns are
as rows. Where phases begin at other rows of x, their filters get zeros to be as long as
those of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

from gos_fx.ir.graph import Graph, Node
from gos_fx.ir.network import Network
from gos_fx.ir.types import Type

Source = TypeVar("Source", Graph, Network)
_Spread = tuple[str, tuple[int, ...], tuple[int, int], tuple[str, ...]]
# What may be computed before the phases are put between each other.
_ALONG_CHANNELS = ("add", "sub", "hadamard", "div")
_UNARY = ("relu", "sigmoid", "tanh", "clip", "affine", "silu", "gelu", "absolute")


def join_phases(source: Source) -> Source:
    """A concrete graph or network of the same values, without transposed convolutions
    in it that have one group, even taps side by side and no schedule of their own."""
    for node in source.nodes:
        found = _match(source, node)
        if found is not None:
            source = _joined(source, found)
    return source


@dataclass(frozen=True)
class _Match:
    """``source``, under the shape ``grid``, is spread by ``steps`` in the nodes
    ``spread``. Behind the correlation ``maps`` come its sum and what goes along
    channels: ``chain``."""

    source: str
    grid: tuple[int, ...]
    steps: tuple[int, int]
    spread: tuple[str, ...]
    maps: Node
    chain: tuple[Node, ...]


def _match(source: Graph | Network, maps: Node) -> _Match | None:
    if maps.opcode != "cross_correlation":
        return None
    even = maps.attr("stride") == maps.attr("dilation") == (1, 1)
    if not even or maps.attr("groups") != 1 or maps.attrs.get("group_dilation"):
        return None
    if source.types[maps.operands[1]].role == "map":
        return None
    spread = _spread(source, maps.operands[0])
    (total,) = _readers(source, maps) or (maps,)
    if spread is None or total.opcode != "sum" or total.attrs.get("axis") != "ci":
        return None
    if total.attrs.get("keep") or len(total.operands) > 1:
        return None
    chain = [total]
    while True:
        readers = _readers(source, chain[-1])
        if len(readers) != 1 or not _goes_along(source, readers[0], chain[-1]):
            return _Match(*spread, maps=maps, chain=tuple(chain))
        chain += readers


def _readers(source: Graph | Network, node: Node) -> tuple[Node, ...]:
    """What alone reads a value, which is no output; else nothing."""
    outputs = source.outputs if isinstance(source, Network) else (source.output,)
    users = source.users[node.name]
    return users if len(users) == 1 and node.name not in outputs else ()


def _goes_along(source: Graph | Network, node: Node, last: Node) -> bool:
    if node.opcode in _UNARY:
        return True
    one, *others = node.operands
    return (
        node.opcode in _ALONG_CHANNELS
        and one == last.name
        and all(source.types[x].rank == 1 for x in others)
        and all(source.types[x].role != "map" for x in others)
    )


def _spread(source: Graph | Network, name: str) -> _Spread | None:
    """The value that has zeros put behind each element, its shape, and how far its
    elements are apart then; the names of what does that."""
    nodes = {node.name: node for node in source.nodes}
    steps = []
    for opcode in ("reshape", "pad", "reshape"):
        step = nodes.get(name)
        if step is None or step.opcode != opcode:
            return None
        steps.append(step)
        name = step.operands[0]
    joined, padded, apart = steps
    amounts = padded.attr("amounts")
    shape: Any = apart.type.shape
    n, c, h, w = joined.type.shape
    behind = (amounts[5], amounts[9]) if len(amounts) == 10 else (0, 0)
    if padded.attr("mode") != "zeros" or sum(behind) != sum(map(abs, amounts)):
        return None
    tall, wide = (1 + zeros for zeros in behind)
    grid: Any = (n, c, h // tall, w // wide)
    if tuple(shape) != (n, c * grid[2], 1, grid[3], 1) or (tall, wide) == (1, 1):
        return None
    return name, grid, (tall, wide), tuple(step.name for step in steps)


def _joined(source: Source, found: _Match) -> Source:
    last = found.chain[-1]
    joined = _Phases(source, found).nodes()
    nodes = [
        new for node in source.nodes for new in (joined if node is last else [node])
    ]
    outputs = source.outputs if isinstance(source, Network) else (source.output,)
    needed = set(outputs)
    kept = []
    # Neither the chain nor, unless others read it too, what spread its input.
    gone = {found.maps.name, *found.spread, *(node.name for node in found.chain[:-1])}
    for node in reversed(nodes):
        if node.name in needed or node.name not in gone:
            needed |= set(node.operands)
            kept.append(node)
    changed: dict[str, Any] = {"nodes": tuple(reversed(kept))}
    if isinstance(source, Network):
        owner = source.owners.get(found.maps.name)
        if owner is not None:
            own = {node.name: owner for node in joined}
            changed["owners"] = {**source.owners, **own}
    return replace(source, **changed)


class _Phases:
    def __init__(self, source: Graph | Network, found: _Match) -> None:
        self._found, self._types = found, dict(source.types)
        self._nodes: list[Node] = []
        self._copies = found.steps[0] * found.steps[1]

    def nodes(self) -> list[Node]:
        """In the place of the chain; the last one has its last name."""
        found = self._found
        x, w = found.source, found.maps.operands[1]
        if self._types[x].shape != found.grid:
            x = self._emit("reshape", (x,), "map", found.grid, shape=found.grid)
        wanted: Any = found.chain[-1].type.shape
        top, _, left, _ = found.maps.attr("padding")
        kernel: Any = self._types[w].shape[2:]
        sides: list[int] = []
        taps, rows = [], []
        for i, (step, before) in enumerate(zip(found.steps, (top, left), strict=True)):
            first = -(before // step)
            last = (kernel[i] + step - 2 - before) // step
            count, size = last - first + 1, -(-wanted[2 + i] // step)
            sides += [-first, size - found.grid[2 + i] + first + count - 1]
            taps.append((step - 1 - before - step * first, count))
            rows.append(size)
        w = self._filters(w, taps)
        value = self._correlated(x, w, rows, tuple(sides))
        self._between(value, wanted)
        *before_last, final = self._nodes
        return [*before_last, replace(final, name=found.chain[-1].name)]

    def _filters(self, w: str, taps: Sequence[tuple[int, int]]) -> str:
        """Every s-th tap for each phase, one filter after the other."""
        outputs, inputs, *kernel = self._sizes(w)
        amounts = [0, 0, 0, 0]
        for step, size, (front, count) in zip(
            self._found.steps, kernel, taps, strict=True
        ):
            amounts += [front, step * count - size - front]
        shape = (
            outputs,
            inputs,
            *(s * n for s, (_, n) in zip(self._found.steps, taps)),
        )
        amounts_ = tuple(amounts)
        padded = self._emit(
            "pad", (w,), "weight", shape, amounts=amounts_, mode="zeros"
        )
        parts = []
        for phase in product(*map(range, self._found.steps)):
            part = padded
            for axis, (i, step, (_, count)) in enumerate(
                zip(phase, self._found.steps, taps, strict=True), start=2
            ):
                part = self._slice(part, axis, step - 1 - i, count, step)
            parts.append(part)
        return self._tiled(parts, "n")

    def _correlated(
        self, x: str, w: str, rows: Sequence[int], padding: tuple[int, ...]
    ) -> str:
        """The correlation and what follows it, all phases side by side as channels."""
        maps, (total, *rest) = self._found.maps, self._found.chain
        n = self._sizes(x)[0]
        channels, inputs, *_ = self._sizes(w)
        attributes = {**maps.attrs, "padding": padding}
        shape = (n, channels, inputs, *rows)
        value = self._emit(maps.opcode, (x, w), "map", shape, **attributes)
        shape = (n, channels, *rows)
        value = self._emit(total.opcode, (value,), "map", shape, **total.attrs)
        for node in rest:
            others = [
                self._tiled([other] * self._copies, "n") for other in node.operands[1:]
            ]
            operands = (value, *others)
            value = self._emit(node.opcode, operands, "map", shape, **node.attrs)
        return value

    def _between(self, value: str, wanted: Sequence[int]) -> None:
        """[N, s_h s_w C, H, W] -> [N, C, H s_h, W s_w], cut to what is wanted."""
        n, channels, h, w = self._sizes(value)
        (tall, wide), c = self._found.steps, channels // self._copies
        apart = (n, tall, wide, c, h, w)
        value = self._emit("reshape", (value,), "map", apart, shape=apart)
        order, mixed = (0, 3, 4, 1, 5, 2), (n, c, h, tall, w, wide)
        value = self._emit("transpose", (value,), "map", mixed, axes=order)
        whole = (n, c, h * tall, w * wide)
        value = self._emit("reshape", (value,), "map", whole, shape=whole)
        for axis in (2, 3):
            value = self._slice(value, axis, 0, wanted[axis], 1)

    def _tiled(self, values: Sequence[str], axis: str) -> str:
        if len(values) == 1:
            return values[0]
        first, *rest = self._sizes(values[0])
        shape = (first * len(values), *rest)
        axis = axis if rest else "co"
        return self._emit("concat", values, "weight", shape, axis=axis)

    def _slice(self, value: str, axis: int, start: int, size: int, step: int) -> str:
        shape = self._sizes(value)
        if (shape[axis], step) == (size, 1):
            return value
        shape = (*shape[:axis], size, *shape[axis + 1 :])
        role = self._types[value].role
        where = {"axis": axis, "start": start, "step": step, "size": size}
        return self._emit("slice", (value,), role, shape, **where)

    def _sizes(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in self._types[name].shape)  # type: ignore[arg-type]

    def _emit(
        self,
        opcode: str,
        operands: Sequence[str],
        role: str,
        shape: tuple[int, ...],
        /,
        **attributes: Any,
    ) -> str:
        name = f"{self._found.maps.name}_phases{len(self._nodes)}"
        while name in self._types:
            name += "_"
        of = self._types[name] = Type(role, shape, self._found.maps.type.dtype)
        self._nodes.append(
            Node(name, opcode, tuple(operands), tuple(attributes.items()), of)
        )
        return name
