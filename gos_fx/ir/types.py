"""Types of values: role, symbolic shape, dtype; or the types of several values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gos_fx.errors import VerifyError
from gos_fx.ir.dim import Dim, product, substitute, symbols

# From strong to weak: a result has the strongest role of its operands.
ROLES = ("map", "weight", "constant", "scalar")

# Axis names by rank; the text form and the attributes speak of axes by name.
AXES: dict[int, tuple[str, ...]] = {
    0: (),
    1: ("co",),
    2: ("n", "co"),
    3: ("n", "t", "co"),
    4: ("n", "co", "ho", "wo"),
    5: ("n", "co", "ci", "ho", "wo"),
}
FLOATS = ("float32", "float16", "float64")
DTYPES = (*FLOATS, "int64", "int32")


@dataclass(frozen=True)
class Type:
    """``map`` is a feature map, ``weight`` trains, ``constant`` does not, ``scalar`` is
    a number that is known when the graph is written.

    A feature map's axes are, by rank, those of :data:`AXES`; what is computed from
    weights alone is a weight again. A *bundle*, the result of an instruction with
    several results, has the types of its ``parts`` and no shape of its own.
    """

    role: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"
    parts: tuple[Type, ...] = ()

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_bundle(self) -> bool:
        return bool(self.parts)

    @property
    def values(self) -> tuple[Type, ...]:
        """The parts of a bundle; the type itself of one value."""
        return self.parts or (self,)

    @property
    def elements(self) -> Dim:
        """Numbers in the value, or in all parts."""
        if self.is_bundle:
            total: Dim = 0
            for part in self.parts:
                total = total + part.elements
            return total
        return product(self.shape)

    @property
    def symbols(self) -> frozenset[str]:
        found = frozenset().union(*(symbols(dim) for dim in self.shape))
        return found.union(*(part.symbols for part in self.parts))

    def substitute(self, bindings: Mapping[str, Dim]) -> Type:
        shape = tuple(substitute(dim, bindings) for dim in self.shape)
        parts = tuple(part.substitute(bindings) for part in self.parts)
        return replace(self, shape=shape, parts=parts)

    def __str__(self) -> str:
        if self.is_bundle:
            inner = ", ".join(str(part) for part in self.parts)
            return f"({inner},)" if len(self.parts) == 1 else f"({inner})"
        items = [str(dim) for dim in self.shape]
        if self.dtype != "float32":
            items.append(self.dtype)
        return f"{self.role}[{', '.join(items) or '()'}]"


def bundle(types: Sequence[Type]) -> Type:
    """The type of several values."""
    return Type(strongest(types), (), parts=tuple(types))


def strongest(types: Sequence[Type]) -> str:
    """The role of what is computed from values of these types."""
    return min((t.role for t in types), key=ROLES.index)


def axis_index(axis: str, rank: int) -> int:
    """Position of a named axis in a value of this rank.

    Raises:
        VerifyError: a value of this rank has no such axis.
    """
    try:
        return AXES[rank].index(axis)
    except (KeyError, ValueError):
        raise VerifyError(f"a value of rank {rank} has no axis {axis!r}") from None


def channel_axis(rank: int) -> int:
    """Axis along which a rank-1 weight is broadcast: the channels."""
    return axis_index("co", rank)
