"""The matrices of Winograd's convolutions F(m x m, 3x3)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

TAPS = 3


@dataclass(frozen=True)
class Form:
    """One-dimensional F(outputs, 3) by interpolation at 0, at pairs of points of either
    sign, and at infinity: ``y = A ((G g) * (B d))`` for inputs ``d`` and taps ``g``.

    Attributes:
        pairs: the positive points.
        most_inputs: channels up to which sums in float32 are off by less than 1e-5 of
            the largest one.
    """

    pairs: tuple[Fraction, ...]
    most_inputs: int

    @property
    def size(self) -> int:
        """Inputs of a tile along an axis; points, infinity counted."""
        return 2 * len(self.pairs) + 2

    @property
    def outputs(self) -> int:
        return self.size - TAPS + 1

    @cached_property
    def points(self) -> tuple[Fraction, ...]:
        """All but infinity, in the order of the rows of ``B`` and ``G``."""
        signed = (s * p for p in self.pairs for s in (1, -1))
        return (Fraction(0), *signed)

    @cached_property
    def whole(self) -> tuple[Fraction, ...]:
        """Coefficients of ``prod(x^2 - p^2)`` over all pairs, by powers of ``x^2``."""
        return _even(self.pairs)

    def without(self, pair: int) -> tuple[Fraction, ...]:
        """The same without one of the pairs."""
        return _even(self.pairs[:pair] + self.pairs[pair + 1 :])

    @property
    def input_operations(self) -> int:
        """Additions and multiply-adds of ``B d``."""
        k = len(self.pairs)
        return 2 * k + k * (2 if k == 1 else k + 3)

    @property
    def output_operations(self) -> int:
        """Additions and multiply-adds of ``A m``."""
        k = len(self.pairs)
        return 2 * k + self.outputs * k

    @cached_property
    def taps(self) -> tuple[tuple[float, ...], ...]:
        """``G``: what each tap is multiplied by, one row for each point."""
        rows = []
        for point in self.points:
            others = Fraction(1)
            for other in self.points:
                others *= point - other if other != point else 1
            rows.append(tuple(float(point**k / others) for k in range(TAPS)))
        return (*rows, (0.0, 0.0, 1.0))


def _even(pairs: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    found = [Fraction(1)]
    for p in pairs:
        shifted, scaled = [Fraction(0), *found], [*(-p * p * c for c in found), 0]
        found = [a + b for a, b in zip(shifted, scaled)]
    return tuple(found)


# The error of F(4x4) depends on its points: with 1 and 2 it is three times as large.
FORMS = {
    2: Form((Fraction(1),), 1 << 30),
    4: Form((Fraction(3, 4), Fraction(3, 2)), 512),
}
