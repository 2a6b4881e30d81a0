"""Borders around feature maps: padding modules, and what convolutions pad with."""

from __future__ import annotations

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Lowering, Shape, lowering
from gos_fx.passes.lowerings.layout import (
    channels_first,
    check_batch,
    lift,
    restore,
)

# Above, below, left, right.
Sides = tuple[int, int, int, int]


def pad(state: Lowering, x: str, sides: Sides, mode: str) -> str:
    """A border around a map [N, C, H, W]; a map of one row has none above and below."""
    above, below, left, right = state.bind("Q_t Q_b Q_l Q_r", sides)
    b = state.builder
    if b.types[x].shape[2] == 1:
        above = below = 0
    amounts = (0, 0, 0, 0, above, below, left, right)
    return b.emit("pad", x, amounts=amounts, mode=mode)


def _padding(mode: str) -> None:
    """The rules of the padding modules of one mode."""

    def rule(
        state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
    ) -> str:
        amounts = tuple(module.padding)  # type: ignore[arg-type]
        check_batch(before, 2 + len(amounts) // 2, "padding")
        left, right, above, below = (*amounts, 0, 0)[:4]
        if min(amounts) < 0:
            raise Unsupported("padding that crops")
        value = pad(state, lift(state, x), (above, below, left, right), mode)
        return restore(state, value, len(before))

    for kind in _KINDS[mode]:
        lowering(kind, axes=channels_first)(rule)


_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "zeros": (nn.ZeroPad1d, nn.ZeroPad2d),
    "reflect": (nn.ReflectionPad1d, nn.ReflectionPad2d),
    "replicate": (nn.ReplicationPad1d, nn.ReplicationPad2d),
    "circular": (nn.CircularPad1d, nn.CircularPad2d),
}
for _mode in _KINDS:
    _padding(_mode)
