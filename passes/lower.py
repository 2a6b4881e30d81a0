"""Modules and functions -> instruction templates, through tables of lowerings.

There are three kinds of rules. ``state`` is the :class:`Lowering` of the operator;
``state.builder.emit`` appends instructions and gives the names of their results.

A module that takes one feature map and gives one, alone or behind others::

    @lowering(nn.ReLU, activation=True)
    def relu(state, module, x, before, after) -> str

``x`` is the name of the map, declared with the symbols of its rank; ``before`` and
``after`` are the shapes at this site.

A module with several inputs or results::

    @lowering(nn.LSTM, whole=True)
    def lstm(state, module, call) -> str | Sequence[str]

``call`` is a :class:`Call`. The rule declares the maps that it reads with
``state.map(call["input"], "N T C_in")`` and gives one value for each result that is
used, in their order: what ``call.used`` says. It may also give a bundle of them.

A function or method between modules::

    @function(torch.flatten, "flatten")
    def flatten(state, out, x, start_dim=0, end_dim=-1) -> str | Sequence[str]

Arguments are those of the call: feature maps, and what is computed from weights, as
:class:`Value` (declared already), parameters and buffers as tensors
(``state.attribute`` declares them), sizes that depend on the batch as expressions,
anything else as it is. ``out`` is the shape of the result, or a tuple of shapes: the
batch is the symbol N, all else numbers. One value for each result that it gives.

A rule raises Unsupported for what it does not cover; what an instruction refuses
(VerifyError) counts as that too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import Tensor, nn

from gos_fx import instructions  # noqa: F401  (fills the instruction table)
from gos_fx.errors import Unsupported, VerifyError
from gos_fx.ir.builder import Builder
from gos_fx.ir.dim import Dim, Expr, parse_dim, substitute, symbol
from gos_fx.ir.graph import Graph
from gos_fx.ir.types import Type
from gos_fx.ir.verifier import verify

Shape = tuple[int, ...]

MAP_SYMBOLS: dict[int, tuple[str, ...]] = {
    2: ("N", "C_in"),
    3: ("N", "T", "C_in"),
    4: ("N", "C_in", "H", "W"),
}
# Of maps of whole numbers, which have no channels: tokens and the like.
INDEX_SYMBOLS: dict[int, tuple[str, ...]] = {1: ("N",), 2: ("N", "T")}


@dataclass(frozen=True)
class Value:
    """A value of the template. ``shape`` has numbers in a :class:`Call`, and the batch
    as a symbol in arguments of functions."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Call:
    """How a module is called at one site.

    Attributes:
        arguments: of its forward by name, defaults included: feature maps as
            :class:`Value`, the same map twice as equal ones; all else as it is.
        results: shape of each tensor that it gives, in order, nested tuples flattened;
            None for what is no tensor.
        used: which of these something reads.
    """

    arguments: Mapping[str, Any]
    results: tuple[Shape | None, ...]
    used: tuple[bool, ...]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]


@dataclass
class Lowering:
    """The template under construction and what it is bound to at this site."""

    builder: Builder
    bindings: dict[str, int] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def map(self, value: Value, symbols: str = "") -> str:
        """Declare a feature map, once; gives its name.

        Args:
            symbols: of its axes, or numbers and expressions of symbols that are bound,
                for instance ``"2 N G*C_g"``; those of its rank unless given.

        Raises:
            Unsupported: a rank without symbols, or a symbol that has another size.
        """
        if value.name in self.builder.types:
            return value.name
        names = symbols.split() or _symbols_of(value)
        if len(names) != len(value.shape):
            raise Unsupported(f"a feature map of rank {len(value.shape)}")
        shape = tuple(parse_dim(name) for name in names)
        for axis, size in zip(shape, value.shape, strict=True):
            if isinstance(axis, Expr) and axis.op == "symbol":
                self.bindings.setdefault(str(axis), size)  # type: ignore[arg-type]
            if (known := substitute(axis, self.bindings)) != size:
                raise Unsupported(f"{axis} is {known} and {size}")
        return self.builder.input(value.name, Type("map", shape, value.dtype))

    def weight(
        self, name: str, shape: Sequence[Dim], value: Tensor, role: str = "weight"
    ) -> str:
        """Declare a weight (or a constant) of this site; gives its name, which has a
        number where ``name`` is taken."""
        free, index = name, 2
        while free in self.builder.types:
            free, index = f"{name}_{index}", index + 1
        self.weights[free] = value
        dtype = str(value.dtype).removeprefix("torch.")
        return self.builder.input(free, Type(role, tuple(shape), dtype))

    def attribute(self, value: Tensor, name: str = "w") -> str:
        """Declare a tensor of the network as it is: a parameter trains."""
        role = "weight" if isinstance(value, nn.Parameter) else "constant"
        return self.weight(name, tuple(value.shape), value, role)

    def bind(self, names: str, values: Sequence[int]) -> tuple[Dim, ...]:
        """Bind ``"S_h S_w"`` and the like; gives the symbols."""
        keys = names.split()
        self.bindings.update(zip(keys, values, strict=True))
        return tuple(symbol(key) for key in keys)


def _symbols_of(value: Value) -> tuple[str, ...]:
    table = INDEX_SYMBOLS if value.dtype.startswith("int") else MAP_SYMBOLS
    return table.get(len(value.shape), ())


Rule = Callable[[Lowering, nn.Module, str, Shape, Shape], str]
# The symbols by which the map of a module is declared where it leads its operator.
AxesRule = Callable[[Lowering, nn.Module, Shape], str]
WholeRule = Callable[[Lowering, nn.Module, Call], str | Sequence[str]]
FunctionRule = Callable[..., str | Sequence[str]]
_F = TypeVar("_F", bound=FunctionRule)
_LOWERINGS: dict[type[nn.Module], Any] = {}
_AXES: dict[type[nn.Module], AxesRule] = {}
_ACTIVATIONS: set[type[nn.Module]] = set()
_WHOLE: set[type[nn.Module]] = set()
_FUNCTIONS: dict[Any, FunctionRule] = {}


def lowering(
    kind: type[nn.Module],
    *,
    activation: bool = False,
    whole: bool = False,
    axes: AxesRule | None = None,
) -> Callable[[Any], Any]:
    """Register the rule of a type of modules: a :data:`Rule`, or a :data:`WholeRule`
    with ``whole``. Activations belong to the operator in front of them. ``axes`` gives
    other symbols than those of the rank."""

    def declare(rule: Any) -> Any:
        if kind in _LOWERINGS:
            raise ValueError(f"{kind.__name__} has two lowerings")
        _LOWERINGS[kind] = rule
        if axes is not None:
            _AXES[kind] = axes
        if activation:
            _ACTIVATIONS.add(kind)
        if whole:
            _WHOLE.add(kind)
        return rule

    return declare


def function(*targets: Any) -> Callable[[_F], _F]:
    """Register the rule of functions, and by name of methods and (``package.module.f``)
    of functions that are not imported here."""

    def declare(rule: _F) -> _F:
        for target in targets:
            if target in _FUNCTIONS:
                raise ValueError(f"{target} has two lowerings")
            _FUNCTIONS[target] = rule
        return rule

    return declare


def is_lowered(module: nn.Module) -> bool:
    return type(module) in _LOWERINGS


def is_whole(module: nn.Module) -> bool:
    """Whether the module's rule takes the whole call."""
    return type(module) in _WHOLE


def is_activation(module: nn.Module) -> bool:
    return type(module) in _ACTIVATIONS


def function_rule(target: Any) -> FunctionRule | None:
    """The rule of a function, or of a method by name."""
    name = f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', '')}"
    return _FUNCTIONS.get(target, _FUNCTIONS.get(name))


@dataclass(frozen=True)
class Lowered:
    """A template and what it is bound to at one site."""

    template: Graph
    bindings: Mapping[str, int]
    weights: Mapping[str, Tensor]


def lower_modules(
    modules: Sequence[nn.Module], shapes: Sequence[Shape], dtype: str = "float32"
) -> Lowered:
    """One template for modules in a row; ``shapes`` has one entry more than they.

    Raises:
        Unsupported: a module's setting that its lowering does not cover.
    """
    first = type(modules[0])
    state = Lowering(Builder(first.__name__.lower()))
    with refusals():
        axes = _AXES[first](state, modules[0], shapes[0]) if first in _AXES else ""
        value = state.map(Value("x", shapes[0], dtype), axes)
        for module, before, after in zip(modules, shapes[:-1], shapes[1:], strict=True):
            value = _LOWERINGS[type(module)](state, module, value, before, after)
        return finish(state, value)


def lower_call(module: nn.Module, call: Call) -> Lowered:
    """The template of one call of a module that takes it whole.

    Raises:
        Unsupported: as :func:`lower_modules`.
    """
    state = Lowering(Builder(type(module).__name__.lower()))
    with refusals():
        return finish(state, _LOWERINGS[type(module)](state, module, call))


def finish(state: Lowering, values: str | Sequence[str]) -> Lowered:
    """The template that gives these values, several as a bundle."""
    if not isinstance(values, str):
        several = len(values) > 1
        values = state.builder.emit("bundle", *values) if several else values[0]
    template = verify(_needed(state.builder.build(values)))
    if unbound := template.symbols - set(state.bindings):
        raise Unsupported(f"no feature map says what {sorted(unbound)[0]} is")
    weights = {value.name: state.weights[value.name] for value in template.weights}
    return Lowered(template, state.bindings, weights)


def _needed(graph: Graph) -> Graph:
    """The graph without what does not reach the output: results that nothing reads,
    maps of which only the shape counted."""
    needed = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.operands)
    inputs = tuple(value for value in graph.inputs if value.name in needed)
    nodes = tuple(node for node in graph.nodes if node.name in needed)
    return replace(graph, inputs=inputs, nodes=nodes).renumbered()


@contextmanager
def refusals() -> Iterator[None]:
    """What an instruction does not take, its lowering does not cover."""
    try:
        yield
    except VerifyError as error:
        raise Unsupported(error.what, error.where, error.do) from error
