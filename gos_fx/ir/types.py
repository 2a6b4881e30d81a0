"""Types of values: role, symbolic shape, dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gos_fx.errors import VerifyError
from gos_fx.ir.dim import Dim, product, substitute, symbols

ROLES = ("map", "weight", "constant")

# Axis names by rank; the text form and the attributes speak of axes by name.
AXES: dict[int, tuple[str, ...]] = {
    1: ("co",),
    2: ("n", "co"),
    3: ("n", "t", "co"),
    4: ("n", "co", "ho", "wo"),
    5: ("n", "co", "ci", "ho", "wo"),
}


@dataclass(frozen=True)
class Type:
    """``map`` is a feature map, ``weight`` trains, ``constant`` does not.

    A feature map's axes are, by rank, those of :data:`AXES`; what is computed from
    weights alone is a weight again.
    """

    role: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Dim:
        return product(self.shape)

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset().union(*(symbols(dim) for dim in self.shape))

    def substitute(self, bindings: Mapping[str, Dim]) -> Type:
        shape = tuple(substitute(dim, bindings) for dim in self.shape)
        return Type(self.role, shape, self.dtype)

    def __str__(self) -> str:
        dims = ", ".join(str(dim) for dim in self.shape)
        suffix = "" if self.dtype == "float32" else f", {self.dtype}"
        return f"{self.role}[{dims}{suffix}]"


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
