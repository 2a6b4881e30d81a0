"""For each instruction a graph of it alone, on symbolic sizes: what the page of the
instructions shows its cost and its ONNX form on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from gos_fx import instructions  # noqa: F401  (fills the instruction table)
from gos_fx.errors import GosError
from gos_fx.ir.builder import Builder
from gos_fx.ir.dim import Dim, parse_dim
from gos_fx.ir.graph import Graph
from gos_fx.ir.opcode import Opcode
from gos_fx.ir.parser import parse
from gos_fx.ir.types import Type, bundle

# Sizes at which an example's ONNX form is looked at.
SIZES = {"N": 2, "T": 5, "C": 4, "H": 8, "W": 8, "M": 6, "K_h": 3, "K_w": 3}

_CELL = """
def cell(x: map[N, C], h: map[N, C], *, w: weight[C, C]) -> map[N, C]:
    v0 = matmul(h, w)
    v1 = add(x, v0)
    v2 = tanh(v1)
    return v2"""


def example(opcode: Opcode) -> Graph:
    """The first graph of the instruction alone, among common operands and attributes,
    that the instruction takes.

    Raises:
        LookupError: it takes none of them; another has to be listed here.
    """
    for types in _operands(opcode):
        if not _fits(opcode, len(types)):
            continue
        for attributes in _attributes(opcode):
            builder = Builder(opcode.name)
            try:
                names = _inputs(builder, opcode, types)
                result = builder.append(opcode.name, names, attributes)
                graph = builder.build(result)
                graph.instantiate(SIZES)
            except GosError:
                continue
            return graph
    raise LookupError(f"no example of {opcode.name}")


def takes_one(opcode: Opcode) -> bool:
    """Whether an instruction of any number of values also goes over an axis of one."""
    axis = opcode.attributes.get("axis")
    return axis is not None and axis.default == ""


def _fits(opcode: Opcode, count: int) -> bool:
    if not opcode.variadic:
        return count == len(opcode.operands)
    return count > 1 or takes_one(opcode)


def _inputs(builder: Builder, opcode: Opcode, types: tuple[Type, ...]) -> list[str]:
    names = opcode.operands
    if opcode.variadic:
        names = tuple(f"x{i}" for i in range(len(types)))
    return [builder.input(n, t) for n, t in zip(names, types, strict=True)]


def _dims(*dims: str) -> tuple[Dim, ...]:
    return tuple(map(parse_dim, dims))


def _type(role: str, *dims: str, dtype: str = "float32") -> Type:
    return Type(role, _dims(*dims), dtype)


_IMAGE = _type("map", "N", "C", "H", "W")
_MAPS = _type("map", "N", "M", "C", "H", "W")
_SEQUENCE = _type("map", "N", "T", "C")
_ROWS = _type("map", "N", "C")
_SQUARE = _type("map", "N", "C", "C")
_GAIN = _type("weight", "C")
_OPERANDS: tuple[tuple[Type, ...], ...] = (
    (),
    (_IMAGE,),
    (_SEQUENCE,),
    (_SQUARE,),
    (_MAPS,),
    (bundle([_SEQUENCE, _ROWS]),),
    (_IMAGE, _IMAGE),
    (_SEQUENCE, _type("weight", "C", "M")),
    (_SEQUENCE, _SEQUENCE),
    (_SEQUENCE, _ROWS),
    (_MAPS, _GAIN),
    (_IMAGE, _type("weight", "M", "C", "K_h", "K_w")),
    (_type("weight", "M", "C"), _type("map", "N", "T", dtype="int64")),
    (_IMAGE, _GAIN, _GAIN),
    (_SEQUENCE, _ROWS, _type("weight", "C", "C")),
)
# Those of linear algebra are read best on matrices.
_MATRICES = (
    (_SEQUENCE,),
    (_SQUARE,),
    (_SEQUENCE, _type("weight", "C", "M")),
    (_SEQUENCE, _ROWS),
    (_type("map", "N", "T"), _ROWS),
)
_VALUES: dict[str, tuple[Any, ...]] = {
    "amounts": ((0, 0, 0, 0, 1, 1, 1, 1),),
    "axes": ((0, 2, 3, 1),),
    "body": (parse(_CELL.strip()),),
    "dtype": ("int64",),
    "index": (1,),
    "shape": (_dims("N", "C * H * W"), _dims("N", "C")),
    "size": (_dims("2 * H", "2 * W"), *_dims("C // 2")),
    "states": (("h",),),
}
_AXES = ("co", "ci", "t")


def _operands(opcode: Opcode) -> Iterator[tuple[Type, ...]]:
    if opcode.category == "linear algebra" and opcode.takes:
        yield from _MATRICES
    yield from _OPERANDS


def _attributes(opcode: Opcode) -> Iterator[dict[str, Any]]:
    if opcode.schedule:
        yield {"co": 8, "wo": 4}
        return
    found: dict[str, tuple[Any, ...]] = {}
    for name, attribute in opcode.attributes.items():
        if attribute.solved or attribute.optional:
            continue
        if attribute.kind == "axis":
            found[name] = tuple(dict.fromkeys((attribute.default, *_AXES)))
        elif name in _VALUES:
            found[name] = _VALUES[name]
        elif attribute.default is not None:
            found[name] = (attribute.default,)
        else:
            found[name] = attribute.choices[:1] or (1,)
    for values in product(*found.values()):
        yield dict(zip(found, values, strict=True))
