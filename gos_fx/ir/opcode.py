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
from gos_fx.ir.dim import Dim, Expr, ceildiv, symbol
from gos_fx.ir.types import Type
from gos_fx.registry import Registry

Attributes = Mapping[str, Any]
ShapeRule = Callable[..., tuple[Dim, ...]]
FlopsRule = Callable[..., Dim]


@dataclass(frozen=True)
class Attribute:
    """A hyper-parameter of an instruction (the paper's constant nodes).

    ``kind`` is ``dim``, ``dims``, ``real``, ``flag``, ``axis`` or ``axes``; ``choices``
    are the legal values that a mutation may draw (empty: only edits set it). ``dims``
    have as many entries as the default, where there is one.
    ``solved`` attributes are absent in templates and filled in by ``instantiate``.
    """

    kind: str
    default: Any = None
    choices: tuple[Any, ...] = ()
    solved: bool = False

    def takes(self, value: Any) -> bool:
        """Whether ``value`` is of this kind."""
        if not _CHECKS[self.kind](value):
            return False
        return not isinstance(self.default, tuple) or len(value) == len(self.default)


@dataclass(frozen=True)
class Opcode:
    """One instruction: equation (docstring), types, cost and meaning.

    ``window`` gives kernel and dilation of an instruction whose padding is solved;
    ``summed`` is the reference followed by a sum over ``ci``, without the maps.
    """

    name: str
    category: str
    reference: Callable[..., Any]
    operands: tuple[str, ...]
    attributes: dict[str, Attribute]
    shape: ShapeRule
    flops: FlopsRule
    rtol: float
    variadic: bool = False
    table1: bool = True
    schedule: bool = False
    window: Callable[..., tuple[tuple[Dim, Dim], tuple[Dim, Dim]]] | None = None
    summed: Callable[..., Any] | None = None
    equation: str = field(default="", compare=False)

    def infer(self, types: Sequence[Type], attributes: Attributes) -> Type:
        """Type of the result.

        Raises:
            VerifyError: wrong arity, unknown or missing attributes, or operand types
                that the instruction does not take.
        """
        arity = len(self.operands)
        if len(types) != arity and not (self.variadic and len(types) >= 2):
            raise VerifyError(
                f"{self.name} takes {arity} operands, not {len(types)}", where=self.name
            )
        if not self.schedule:
            self._check_attributes(attributes)
        if len({t.dtype for t in types}) > 1:
            raise VerifyError("operands differ in dtype", where=self.name)
        shape = self.shape(*types, **attributes)
        role = "map" if any(t.role == "map" for t in types) else "weight"
        return Type(role, shape, types[0].dtype)

    def _check_attributes(self, attributes: Attributes) -> None:
        required = {k for k, a in self.attributes.items() if not a.solved}
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
            if not self.attributes[key].takes(value):
                raise VerifyError(
                    f"{key}={value!r} is not a {self.attributes[key].kind}",
                    where=self.name,
                )


OPCODES: Registry[Opcode] = Registry("instruction")


def _is_dim(value: Any) -> bool:
    return isinstance(value, int | Expr) and not isinstance(value, bool)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "dim": _is_dim,
    "dims": lambda v: isinstance(v, tuple) and all(_is_dim(d) for d in v),
    "real": lambda v: isinstance(v, float),
    "flag": lambda v: isinstance(v, bool),
    "axis": lambda v: isinstance(v, str),
    "axes": lambda v: isinstance(v, tuple) and all(isinstance(d, int) for d in v),
}


def instruction(
    *,
    category: str,
    attributes: dict[str, Attribute] | None = None,
    shape: ShapeRule | None = None,
    flops: FlopsRule | None = None,
    rtol: float = 1e-5,
    variadic: bool = False,
    table1: bool = True,
    schedule: bool = False,
    window: Callable[..., Any] | None = None,
    summed: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated torch function as an instruction."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(function).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
        operands = tuple(p.name for p in parameters if p.kind in kinds)
        opcode = Opcode(
            name=function.__name__.rstrip("_"),
            category=category,
            reference=function,
            operands=operands,
            attributes=attributes or {},
            shape=shape or broadcast,
            flops=flops or (lambda out, *types, **attrs: out.elements),
            rtol=rtol,
            variadic=variadic,
            table1=table1,
            schedule=schedule,
            window=window,
            summed=summed,
            equation=inspect.getdoc(function) or "",
        )
        OPCODES.register(opcode.name, opcode)
        return function

    return declare


def broadcast(*types: Type, **_: Any) -> tuple[Dim, ...]:
    """Equal shapes; or a rank-1 weight along the channels of a larger operand."""
    largest = max(types, key=lambda t: t.rank)
    for other in types:
        if other.shape == largest.shape:
            continue
        channels = largest.shape[-1 if largest.rank == 3 else min(1, largest.rank - 1)]
        if other.rank == 1 and other.role != "map" and other.shape[0] == channels:
            continue
        raise VerifyError(f"shapes of {largest} and {other} do not fit")
    return largest.shape


def windowed_extent(
    extent: Dim, name: str, stride: Dim, padding: tuple[int, int] | None, reach: Dim
) -> Dim:
    """Extent after a window moves along an axis (``name`` is ``h`` or ``w``).

    In a template the site's own stride leads from its input grid to its output grid,
    and a literal stride s to ``ceildiv(extent, s)``; padding is solved from that.
    """
    if padding is not None:
        return (extent + sum(padding) - reach) // stride + 1
    if stride == symbol(f"S_{name}"):
        if extent != symbol(name.upper()):
            raise VerifyError(
                f"the site's stride S_{name} must start from the input grid",
                where=f"extent {extent}",
            )
        return symbol(f"{name.upper()}_out")
    return ceildiv(extent, stride)
