"""Modules -> instruction templates, through a table of lowerings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from gos_fx import instructions  # noqa: F401  (fills the instruction table)
from gos_fx.errors import Unsupported
from gos_fx.ir.builder import Builder
from gos_fx.ir.dim import Dim, symbol
from gos_fx.ir.graph import Graph
from gos_fx.ir.types import Type

Shape = tuple[int, ...]


@dataclass
class Lowering:
    """The template under construction and what it is bound to at this site."""

    builder: Builder
    bindings: dict[str, int] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def source(self, shape: Shape) -> str:
        """Declare the feature map ``x`` with the symbols of its rank.

        Raises:
            Unsupported: feature maps have rank 2, 3 or 4.
        """
        names = MAP_SYMBOLS.get(len(shape))
        if names is None:
            raise Unsupported(f"a feature map of rank {len(shape)}")
        self.bindings.update(zip(names, shape, strict=True))
        return self.builder.input("x", Type("map", tuple(symbol(n) for n in names)))

    def weight(
        self, name: str, shape: Sequence[Dim], value: Tensor, role: str = "weight"
    ) -> str:
        """Declare a weight (or a constant) of this site."""
        self.weights[name] = value
        return self.builder.input(name, Type(role, tuple(shape)))

    def bind(self, names: str, values: Sequence[int]) -> tuple[Dim, ...]:
        """Bind ``"S_h S_w"`` and the like; gives the symbols."""
        keys = names.split()
        self.bindings.update(zip(keys, values, strict=True))
        return tuple(symbol(key) for key in keys)


MAP_SYMBOLS: dict[int, tuple[str, ...]] = {
    2: ("N", "C_in"),
    3: ("N", "T", "C_in"),
    4: ("N", "C_in", "H", "W"),
}

Rule = Callable[[Lowering, nn.Module, str, Shape, Shape], str]
_LOWERINGS: dict[type[nn.Module], Rule] = {}
_ACTIVATIONS: set[type[nn.Module]] = set()


def lowering(
    kind: type[nn.Module], *, activation: bool = False
) -> Callable[[Rule], Rule]:
    """Register ``rule(lowering, module, value, shape before, after) -> value``."""

    def declare(rule: Rule) -> Rule:
        if kind in _LOWERINGS:
            raise ValueError(f"{kind.__name__} has two lowerings")
        _LOWERINGS[kind] = rule
        if activation:
            _ACTIVATIONS.add(kind)
        return rule

    return declare


def is_lowered(module: nn.Module) -> bool:
    return type(module) in _LOWERINGS


def is_activation(module: nn.Module) -> bool:
    return type(module) in _ACTIVATIONS


def lower_modules(
    modules: Sequence[nn.Module], shapes: Sequence[Shape]
) -> tuple[Graph, Mapping[str, int], Mapping[str, Tensor]]:
    """One template for modules in a row; ``shapes`` has one entry more than they.

    Raises:
        Unsupported: a module's setting that its lowering does not cover.
    """
    name = type(modules[0]).__name__.lower()
    state = Lowering(Builder(name))
    value = state.source(shapes[0])
    for module, before, after in zip(modules, shapes[:-1], shapes[1:], strict=True):
        value = _LOWERINGS[type(module)](state, module, value, before, after)
    return state.builder.build(value), state.bindings, state.weights
