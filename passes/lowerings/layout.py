"""How maps are laid out for instructions: rows of a row map, symbols of their axes."""

from __future__ import annotations

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.ir.dim import Dim, product
from gos_fx.passes.lower import MAP_SYMBOLS, Lowering, Shape

_CHANNELS_FIRST = {2: "N C_in", 3: "N C_in W", 4: "N C_in H W"}


def any_rank(state: Lowering, module: nn.Module, shape: Shape) -> str:
    """The symbols of the rank; N and numbered ones where it has none."""
    if len(shape) in MAP_SYMBOLS:
        return ""
    return " ".join(["N", *(f"A_{i}" for i in range(1, len(shape)))])


def channels_first(state: Lowering, module: nn.Module, shape: Shape) -> str:
    """[N, C_in], [N, C_in, W] or [N, C_in, H, W].

    Raises:
        Unsupported: another rank.
    """
    if len(shape) not in _CHANNELS_FIRST:
        raise Unsupported(f"a feature map of rank {len(shape)}")
    return _CHANNELS_FIRST[len(shape)]


def channels_last(state: Lowering, module: nn.Module, shape: Shape) -> str:
    """[N, C_in], [N, T, C_in], [N, T_1, T_2, C_in] and so on.

    Raises:
        Unsupported: a map without a batch axis.
    """
    if len(shape) < 2:
        raise Unsupported(f"a feature map of rank {len(shape)}")
    between = [f"T_{i}" for i in range(1, len(shape) - 1)] if len(shape) > 3 else ["T"]
    return " ".join(["N", *between[: len(shape) - 2], "C_in"])


def lift(state: Lowering, x: str) -> str:
    """[N, C, W] as a map of one row, [N, C, 1, W]; other ranks as they are."""
    shape = state.builder.types[x].shape
    if len(shape) != 3:
        return x
    return state.builder.emit("reshape", x, shape=(*shape[:2], 1, shape[2]))


def restore(state: Lowering, x: str, rank: int) -> str:
    """The inverse of :func:`lift` for a map that had ``rank`` before it."""
    shape = state.builder.types[x].shape
    if rank != 3:
        return x
    return state.builder.emit("reshape", x, shape=(*shape[:2], shape[3]))


def tokens(state: Lowering, x: str, features: int = 1) -> str:
    """[N, T, M]: M is the product of the last ``features`` axes, T of the others."""
    n, *rest = state.builder.types[x].shape
    split = len(rest) - features
    shape = (n, product(rest[:split]), product(rest[split:]))
    return reshape(state, x, shape)


def reshape(state: Lowering, x: str, shape: tuple[Dim, ...]) -> str:
    """Nothing is inserted where the map has that shape."""
    if state.builder.types[x].shape == shape:
        return x
    return state.builder.emit("reshape", x, shape=shape)


def pair(value: int | tuple[int, ...], rank: int, one: int = 1) -> tuple[int, int]:
    """A setting of a module for (rows, columns); a map of rank 3 has one row, for which
    it is ``one``."""
    if not isinstance(value, int):
        return (one, value[0]) if len(value) == 1 else (value[0], value[1])
    return (one, value) if rank == 3 else (value, value)


def check_batch(before: Shape, rank: int, what: str) -> None:
    """Raises Unsupported where the map has no batch axis."""
    if len(before) != rank:
        raise Unsupported(f"{what} without a batch axis")
