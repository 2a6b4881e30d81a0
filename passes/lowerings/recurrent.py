"""Recurrent layers: the cell is a graph under a scan, each gate with its own weights.

Equations are those of torch's documentation; weights are torch's, one matrix for each
gate and transposed, so that w_ii is [C_in, C_out]. Where torch adds two biases there
are two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from gos_fx.errors import Unsupported
from gos_fx.ir.builder import Builder
from gos_fx.ir.dim import Dim, symbol
from gos_fx.ir.types import Type
from gos_fx.passes.lower import Call, Lowering, Value, lowering

# Appends ``value W + b`` for the input ("i") or the state ("h") of a gate.
Linear = Callable[[str, str, str], str]
# Appends a step of the cell: its input and the states give the next states.
Step = Callable[[Builder, Linear, str, Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class _Kind:
    """A cell: its step, its states, and its gates in the order of torch's tensors."""

    step: Step
    states: tuple[str, ...]
    gates: tuple[str, ...]


def _gate(b: Builder, linear: Linear, gate: str, x: str, h: str) -> str:
    return b.emit("add", linear(x, "i", gate), linear(h, "h", gate))


def _lstm(b: Builder, linear: Linear, x: str, states: Sequence[str]) -> list[str]:
    """c' = f c + i g, h' = o tanh(c')"""
    h, c = states
    i, f, g, o = (
        b.emit("tanh" if gate == "g" else "sigmoid", _gate(b, linear, gate, x, h))
        for gate in "ifgo"
    )
    kept, new = b.emit("hadamard", f, c), b.emit("hadamard", i, g)
    c = b.emit("add", kept, new)
    return [b.emit("hadamard", o, b.emit("tanh", c)), c]


def _gru(b: Builder, linear: Linear, x: str, states: Sequence[str]) -> list[str]:
    """n = tanh(x W + b + r (h U + b')), h' = z h + (1 - z) n"""
    (h,) = states
    r, z = (b.emit("sigmoid", _gate(b, linear, gate, x, h)) for gate in "rz")
    given, reset = linear(x, "i", "n"), linear(h, "h", "n")
    n = b.emit("tanh", b.emit("add", given, b.emit("hadamard", r, reset)))
    kept = b.emit("hadamard", z, h)
    share = b.emit("sub", b.emit("scalar", value=1.0), z)
    return [b.emit("add", kept, b.emit("hadamard", share, n))]


def _rnn(activation: str) -> Step:
    def step(b: Builder, linear: Linear, x: str, states: Sequence[str]) -> list[str]:
        """h' = tanh(x W + b + h U + b'), or relu"""
        (h,) = states
        return [b.emit(activation, _gate(b, linear, "", x, h))]

    return step


_LSTM = _Kind(_lstm, ("h", "c"), tuple("ifgo"))
_GRU = _Kind(_gru, ("h",), tuple("rzn"))


def _kind_of(module: Any) -> _Kind:
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return _LSTM
    if isinstance(module, nn.GRU | nn.GRUCell):
        return _GRU
    return _Kind(_rnn(module.nonlinearity), ("h",), ("",))


@dataclass
class _Weights:
    """Declares a cell's weights in the order of their use.

    Attributes:
        suffix: of torch's names: ``_l0``, ``_l0_reverse``; none for a cell alone.
        names: those of the weights in the template, by the names in the cell.
    """

    state: Lowering
    module: Any
    kind: _Kind
    suffix: str = ""
    names: dict[str, str] = field(default_factory=dict)

    def linear(self, b: Builder, c_in: Dim) -> Linear:
        """``b`` gets the instructions, and where it is not the template's builder its
        own declarations of the weights."""

        def append(value: str, of: str, gate: str) -> str:
            shape = (c_in if of == "i" else self.width("h"), symbol("C_out"))
            w = self._weight(b, "w", of, gate, shape)
            product = b.emit("matmul", value, w)
            if not self.module.bias:
                return product
            bias = self._weight(b, "b", of, gate, shape[1:])
            return b.emit("add", product, bias)

        return append

    def width(self, state: str) -> Dim:
        """Channels of a state: C_p of an ``h`` that is projected, else C_out."""
        is_projected = state == "h" and getattr(self.module, "proj_size", 0)
        return symbol("C_p" if is_projected else "C_out")

    def projection(self, b: Builder, h: str) -> str:
        """h W_hr, for layers that project what they give."""
        if not getattr(self.module, "proj_size", 0):
            return h
        rows: Tensor = getattr(self.module, f"weight_hr{self.suffix}")
        shape = (symbol("C_out"), symbol("C_p"))
        return b.emit("matmul", h, self._declared(b, "w_hr", shape, rows))

    def _weight(
        self, b: Builder, kind: str, of: str, gate: str, shape: tuple[Dim, ...]
    ) -> str:
        whole = {"w": "weight", "b": "bias"}[kind]
        value: Tensor = getattr(self.module, f"{whole}_{of}h{self.suffix}")
        gates = self.kind.gates
        rows = value.chunk(len(gates))[gates.index(gate)]
        return self._declared(b, f"{kind}_{of}{gate}", shape, rows)

    def _declared(
        self, b: Builder, name: str, shape: tuple[Dim, ...], rows: Tensor
    ) -> str:
        label = name + self.suffix.removeprefix("_l0")
        found = self.state.weight(label, shape, rows.t() if rows.dim() > 1 else rows)
        self.names[name] = found
        if b is self.state.builder:
            return found
        return b.input(name, Type("weight", shape))


@lowering(nn.LSTMCell, whole=True)
@lowering(nn.GRUCell, whole=True)
@lowering(nn.RNNCell, whole=True)
def cell(state: Lowering, module: Any, call: Call) -> list[str]:
    """One step, without a scan."""
    kind = _kind_of(module)
    if len(call["input"].shape) != 2:
        raise Unsupported("a cell without a batch")
    if not call.used[0]:
        raise Unsupported("a cell whose output nothing reads")
    x = state.map(call["input"], "N C_in")
    (c_in, _) = state.bind("C_in C_out", (module.input_size, module.hidden_size))
    states = [
        state.map(value, "N C_out")
        if isinstance(value, Value)
        else state.builder.emit("zeros", shape=(symbol("N"), symbol("C_out")))
        for value in _initial(kind, call["hx"])
    ]
    weights = _Weights(state, module, kind)
    results = kind.step(state.builder, weights.linear(state.builder, c_in), x, states)
    return [value for value, used in zip(results, call.used, strict=True) if used]


@lowering(nn.LSTM, whole=True)
@lowering(nn.GRU, whole=True)
@lowering(nn.RNN, whole=True)
def layers(state: Lowering, module: nn.RNNBase, call: Call) -> list[str]:
    """All layers and directions, one scan each.

    Raises:
        Unsupported: sequences without a batch or packed ones.
    """
    if not isinstance(call["input"], Value) or len(call["input"].shape) != 3:
        raise Unsupported("a recurrent layer on other than one tensor with a batch")
    return _Layers(state, module, _kind_of(module), call).results()


def _initial(kind: _Kind, given: Any) -> list[Any]:
    """The first states; None where they are zeros."""
    values = [None] * len(kind.states) if given is None else given
    values = [values] if isinstance(values, Value | Tensor) else list(values)
    if any(isinstance(value, Tensor) for value in values):
        raise Unsupported("a recurrent layer whose first state is a constant")
    return values


@dataclass
class _Layers:
    state: Lowering
    module: nn.RNNBase
    kind: _Kind
    call: Call

    def results(self) -> list[str]:
        """``output``, and the last states of all layers, as far as they are used."""
        module, b = self.module, self.state.builder
        first = module.batch_first
        x = self.state.map(self.call["input"], "N T C_in" if first else "T N C_in")
        if not first:
            x = b.emit("transpose", x, axes=(1, 0, 2))
        self.state.bind("C_in C_out", (module.input_size, module.hidden_size))
        if module.proj_size:
            self.state.bind("C_p", (module.proj_size,))
        initial = _initial(self.kind, self.call["hx"])
        directions = 2 if module.bidirectional else 1
        count = module.num_layers * directions
        widths = [self._weights().width(name) for name in self.kind.states]
        given = [
            v if v is None else self.state.map(v, f"{count} N {width}")
            for v, width in zip(initial, widths, strict=True)
        ]
        last: list[list[str]] = [[] for _ in self.kind.states]
        for layer in range(module.num_layers):
            sequences = []
            is_read = self.call.used[0] or layer + 1 < module.num_layers
            for reverse in range(directions):
                index = layer * directions + reverse
                suffix = f"_l{layer}{'_reverse' if reverse else ''}"
                states = [
                    self._first(value, index, width)
                    for value, width in zip(given, widths, strict=True)
                ]
                scanned = self._scan(x, states, suffix, bool(reverse))
                if is_read:
                    sequences.append(b.emit("result", scanned, index=0))
                for i, found in enumerate(last):
                    if self.call.used[1 + i]:
                        found.append(self._last(scanned, i, bool(reverse)))
            x = _joined(b, sequences, "co") if is_read else ""
        if x and not first:
            x = b.emit("transpose", x, axes=(1, 0, 2))
        found = [x] if x else []
        return found + [_joined(b, values, "n") for values in last if values]

    def _weights(self, suffix: str = "") -> _Weights:
        return _Weights(self.state, self.module, self.kind, suffix)

    def _first(self, given: str | None, index: int, width: Dim) -> str:
        """The first state of one layer and direction."""
        b, shape = self.state.builder, (symbol("N"), width)
        if given is None:
            return b.emit("zeros", shape=shape)
        if b.types[given].shape[0] != 1:
            given = b.emit("slice", given, axis=0, start=index, size=1, step=1)
        return b.emit("reshape", given, shape=shape)

    def _scan(self, x: str, states: list[str], suffix: str, reverse: bool) -> str:
        b, kind = self.state.builder, self.kind
        n, _, c_in = b.types[x].shape
        body = Builder("cell")
        step = body.input("x", Type("map", (n, c_in)))
        weights = self._weights(suffix)
        names = [
            body.input(name, Type("map", (n, weights.width(name))))
            for name in kind.states
        ]
        h, *others = kind.step(body, weights.linear(body, c_in), step, names)
        following = [weights.projection(body, h), *others]
        several = len(following) > 1
        result = body.emit("bundle", *following) if several else following[0]
        attributes: dict[str, Any] = {
            "body": body.build(result),
            "states": kind.states,
        }
        if reverse:
            attributes["reverse"] = True
        return b.append("scan", [x, *states, *weights.names.values()], attributes)

    def _last(self, scanned: str, index: int, reverse: bool) -> str:
        """A state behind the last step, [1, N, C_out]."""
        b = self.state.builder
        sequence = b.emit("result", scanned, index=index)
        n, length, c_out = b.types[sequence].shape
        start = 0 if reverse else length - 1
        value = b.emit("slice", sequence, axis=1, start=start, size=1, step=1)
        return b.emit("reshape", value, shape=(1, n, c_out))


def _joined(b: Builder, values: Sequence[str], axis: str) -> str:
    return values[0] if len(values) == 1 else b.emit("concat", *values, axis=axis)
