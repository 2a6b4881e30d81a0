"""The instruction table: one declaration per instruction.

Operands are the positional-only parameters of the reference function, attributes its
keyword-only ones. The reference is the meaning: it runs on concrete tensors, gives
gradients, and on the meta device the concrete shapes. The ``shape`` rule gives the
symbolic shape and is checked against the reference by a test.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gos_fx.errors import VerifyError
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, Expr, ceildiv, symbol
from gos_fx.ir.types import DTYPES, FLOATS, ROLES, Type, bundle, strongest
from gos_fx.registry import Registry

Attributes = Mapping[str, Any]
# Takes the operand types and the attributes; with several results, gives their shapes.
ShapeRule = Callable[..., Any]
# Take the type of the result, those of the operands, and the attributes.
FlopsRule = Callable[..., Dim]
# Takes a builder of ONNX nodes, the operands' names, their types, the type of the
# result and the attributes; gives the name of the result (names of several).
OnnxForm = Callable[..., Any]


@dataclass(frozen=True)
class Operand:
    """What an instruction takes in one place; empty ``ranks``: any."""

    roles: tuple[str, ...] = ROLES
    ranks: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = FLOATS

    def refuses(self, value: Type) -> str:
        """Why a value is not taken; empty where it is."""
        if value.is_bundle:
            return f"is a bundle of {len(value.parts)}: take one with result()"
        if value.role not in self.roles:
            return f"is a {value.role}, not a {' or a '.join(self.roles)}"
        if self.ranks and value.rank not in self.ranks:
            allowed = " or ".join(map(str, self.ranks))
            return f"has rank {value.rank}, not {allowed}"
        if value.dtype not in self.dtypes:
            return f"has dtype {value.dtype}, not {' or '.join(self.dtypes)}"
        return ""


ANY_VALUE = Operand()
# What moves values takes any kind of numbers.
ANY_DTYPE = Operand(dtypes=DTYPES)


@dataclass(frozen=True)
class Opcode:
    """One instruction: equation (docstring), types, cost and meaning.

    Attributes:
        takes: what each operand must be; :data:`ANY_VALUE` where nothing is said.
        moved: bytes that are read and written, by the operands' and the result's size.
        rtol: largest error of compiled code, as a part of the result's scale.
        variadic: takes any number of operands from two on.
        table1: an instruction of the paper's Table 1; others are free structure.
        results: names of several results, or a function of the attributes that gives
            them; the result is then a bundle.
        dtype: of the result, where it is not that of the operands.
        mixed: operands may differ in dtype.
        takes_bundles: works on several values as one.
        exact: compiled code computes the equation up to rounding; else by an iteration
            or an approximation, up to ``rtol``.
        differentiable: the reference has gradients.
        like: nullary; the reference takes ``like``, a tensor whose dtype and device the
            result has.
        opaque: compiled to one function of its own; nothing is fused behind it.
        window: kernel and dilation of an instruction whose padding is solved.
        summed: the reference followed by a sum over ``ci``, without the maps.
        onnx: one standard operator of the same operands without attributes, or a
            function; None where ONNX has none.
    """

    name: str
    category: str
    reference: Callable[..., Any]
    operands: tuple[str, ...]
    attributes: dict[str, Attribute]
    shape: ShapeRule
    flops: FlopsRule
    moved: FlopsRule
    rtol: float
    takes: Mapping[str, Operand] = field(default_factory=dict)
    variadic: bool = False
    table1: bool = True
    schedule: bool = False
    results: tuple[str, ...] | Callable[..., tuple[str, ...]] = ()
    dtype: Callable[..., str] | None = None
    mixed: bool = False
    takes_bundles: bool = False
    exact: bool = True
    differentiable: bool = True
    like: bool = False
    opaque: bool = False
    window: Callable[..., tuple[tuple[Dim, Dim], tuple[Dim, Dim]]] | None = None
    summed: Callable[..., Any] | None = None
    onnx: str | OnnxForm | None = None
    equation: str = field(default="", compare=False)

    def infer(self, types: Sequence[Type], attributes: Attributes) -> Type:
        """Type of the result.

        Raises:
            VerifyError: wrong arity, unknown, missing or illegal attributes, or operand
                types that the instruction does not take.
        """
        self._check_operands(types)
        if not self.schedule:
            self._check_attributes(attributes)
        found = self.shape(*types, **attributes)
        if isinstance(found, Type):
            return found
        dtype = types[0].dtype if types else "float32"
        if self.dtype is not None:
            dtype = self.dtype(*types, **attributes)
        if not self.results:
            return Type(_role(types, found), found, dtype)
        return bundle([Type(_role(types, shape), shape, dtype) for shape in found])

    def operand(self, index: int) -> tuple[str, Operand]:
        """Name of an operand and what it must be."""
        name = self.operands[0 if self.variadic else index]
        return name, self.takes.get(name, ANY_VALUE)

    def _check_operands(self, types: Sequence[Type]) -> None:
        arity = len(self.operands)
        if len(types) != arity and not (self.variadic and len(types) >= 2):
            raise VerifyError(
                f"{self.name} takes {arity} operands, not {len(types)}", where=self.name
            )
        if not self.takes_bundles:
            for i, found in enumerate(types):
                name, operand = self.operand(i)
                if reason := operand.refuses(found):
                    raise VerifyError(f"operand {name} {reason}", where=self.name)
        if not self.mixed and len({t.dtype for t in types}) > 1:
            raise VerifyError("operands differ in dtype", where=self.name)

    def _check_attributes(self, attributes: Attributes) -> None:
        required = {
            k for k, a in self.attributes.items() if not (a.solved or a.optional)
        }
        if unknown := set(attributes) - set(self.attributes):
            raise VerifyError(
                f"unknown attribute {sorted(unknown)[0]}",
                where=self.name,
                do=f"use {', '.join(self.attributes) or 'none'}",
            )
        if missing := required - set(attributes):
            what = f"missing attribute {sorted(missing)[0]}"
            raise VerifyError(what, where=self.name)
        for key, value in attributes.items():
            if reason := self.attributes[key].refuses(value):
                raise VerifyError(f"{key}={value!r} {reason}", where=self.name)


OPCODES: Registry[Opcode] = Registry("instruction")


def _role(types: Sequence[Type], shape: tuple[Dim, ...]) -> str:
    role = strongest(types) if types else "scalar"
    return "constant" if role == "scalar" and shape else role


_BYTES = {"float32": 4, "float16": 2, "float64": 8, "int64": 8, "int32": 4}


def operand_bytes(out: Type, *types: Type, **_: Any) -> Dim:
    """Every operand is read and every result written once."""
    total: Dim = 0
    for group in (out, *types):
        for value in group.values:
            total = total + value.elements * _BYTES[value.dtype]
    return total


def _elements(out: Type, *types: Type, **_: Any) -> Dim:
    return out.elements


def instruction(
    *,
    category: str,
    attributes: dict[str, Attribute] | None = None,
    operands: dict[str, Operand] | None = None,
    shape: ShapeRule | None = None,
    flops: FlopsRule | None = None,
    moved: FlopsRule = operand_bytes,
    rtol: float = 1e-5,
    **more: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated torch function as an instruction.

    ``operands`` says what each must be, ``more`` are fields of :class:`Opcode`.
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(function).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
        opcode = Opcode(
            name=function.__name__.rstrip("_"),
            category=category,
            reference=function,
            operands=tuple(p.name for p in parameters if p.kind in kinds),
            attributes=attributes or {},
            takes=operands or {},
            shape=shape or broadcast,
            flops=flops or _elements,
            moved=moved,
            rtol=rtol,
            like="like" in inspect.signature(function).parameters,
            equation=inspect.getdoc(function) or "",
            **more,
        )
        OPCODES.register(opcode.name, opcode)
        return function

    return declare


def broadcast(*types: Type, **_: Any) -> tuple[Dim, ...]:
    """The shape of an element-wise result.

    Shapes are equal, or of equal rank with axes of size one in one of them; a number
    goes with anything, a rank-1 weight along the channels of a larger operand.
    """
    largest = max(types, key=lambda t: t.rank)
    shape = largest.shape
    for other in types:
        if other.shape == shape or other.rank == 0:
            continue
        if other.rank == largest.rank:
            shape = tuple(
                _wider(a, b, largest, other) for a, b in zip(shape, other.shape)
            )
            continue
        channels = shape[-1 if largest.rank == 3 else min(1, largest.rank - 1)]
        if other.rank == 1 and other.role != "map" and other.shape[0] == channels:
            continue
        raise VerifyError(f"shapes of {largest} and {other} do not fit")
    return shape


def _wider(a: Dim, b: Dim, first: Type, second: Type) -> Dim:
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    raise VerifyError(f"shapes of {first} and {second} do not fit")


def windowed_extent(
    extent: Dim, name: str, stride: Dim, padding: tuple[int, int] | None, reach: Dim
) -> Dim:
    """Extent after a window moves along an axis (``name`` is ``h`` or ``w``).

    In a template the site's own stride leads from its input grid (padded, cropped or
    upsampled) to its output grid, and a literal stride s to ``ceildiv(extent, s)``;
    padding is solved from that.
    """
    if padding is not None:
        return (extent + sum(padding) - reach) // stride + 1
    if stride == symbol(f"S_{name}"):
        if not _on_grid(extent, symbol(name.upper())):
            raise VerifyError(
                f"the site's stride S_{name} must start from the input grid",
                where=f"extent {extent}",
            )
        return symbol(f"{name.upper()}_out")
    return ceildiv(extent, stride)


def _on_grid(extent: Dim, grid: Expr) -> bool:
    """Is it the grid, or a sum or product with it?"""
    if extent == grid or not isinstance(extent, Expr) or extent.op not in "+-*":
        return extent == grid
    return any(_on_grid(part, grid) for part in extent.args)  # type: ignore[arg-type]
