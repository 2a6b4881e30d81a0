"""Movements of a network: which are the same memory, a view of it, or a kernel."""

from __future__ import annotations

from collections.abc import Callable

from gos_fx.ir.fusion import partition
from gos_fx.ir.network import Network
from gos_fx.kernels.importer.builder import Builder, Value
from gos_fx.kernels.importer.moving import transposed
from gos_fx.kernels.importer.rules import reshaped
from gos_fx.kernels.layout import Seen, plain
from gos_fx.kernels.movement import settle
from gos_fx.kernels.simplify import simplify

IMAGE = (1, 8, 6, 6)
_RELU = {"slope": 0.0}


def pooled(b: Builder, x: Value) -> Value:
    """An image between two kernels."""
    attributes = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0)}
    return b.emit("max_pool", x, out=x.shape, **attributes)


def network(make: Callable[[Builder, Value], Value], *shape: int) -> Network:
    b = Builder()
    return simplify(b.network([make(b, b.map(None, shape or IMAGE))]))


def opcodes(of: Network, *, border: bool = True) -> list[str]:
    return [node.opcode for node in settle(of, border=border)[0].nodes]


def relu(b: Builder, x: Value) -> Value:
    return b.emit("relu", x, out=x.shape, **_RELU)


def rows(b: Builder, x: Value) -> Value:
    """[N, C, H, W] -> [N, H W, C], as before attention."""
    n, c, h, w = x.shape
    return transposed(b, reshaped(b, x, (n, c, h * w)), (0, 2, 1))


def test_channels_side_by_side_are_rows_of_channels() -> None:
    assert opcodes(network(lambda b, x: relu(b, rows(b, pooled(b, x))))) == [
        *("max_pool", "alias", "relu"),
    ]
    # What comes in has its axes in logical order.
    assert opcodes(network(lambda b, x: relu(b, rows(b, x)))) == ["view", "relu"]


def test_a_view_knows_where_it_looks() -> None:
    def make(b: Builder, x: Value) -> Value:
        return relu(b, transposed(b, reshaped(b, relu(b, x), (3, 2, 4)), (1, 0, 2)))

    settled, layouts = settle(network(make, 6, 4), border=True)
    first, view, last = settled.nodes
    seen = layouts[view.name]
    assert isinstance(seen, Seen) and seen.source == first.name
    assert [step.opcode for step in seen.steps] == ["reshape", "transpose"]
    kernels = partition(settled)
    assert [kernel.output for kernel in kernels] == [first.name, last.name]


def test_outputs_and_inputs_of_convolutions_are_stored() -> None:
    def shuffled(b: Builder, x: Value) -> Value:
        y = transposed(b, reshaped(b, x, (1, 2, 4, 6, 6)), (0, 2, 1, 3, 4))
        return reshaped(b, y, x.shape)

    before = network(lambda b, x: pooled(b, shuffled(b, pooled(b, x))))
    assert opcodes(before) == ["max_pool", "move", "max_pool"]
    assert opcodes(network(lambda b, x: transposed(b, x, (0, 2, 3, 1)))) == ["move"]
    assert opcodes(network(lambda b, x: reshaped(b, x, (1, 8, 36)))) == ["alias"]


def test_images_alone_have_their_channels_last() -> None:
    def make(b: Builder, x: Value) -> Value:
        return relu(b, b.emit("softmax", pooled(b, relu(b, x)), out=IMAGE, axis="wo"))

    made = network(make)
    _, layouts = settle(made, border=True)
    before, pool, soft, last = (node.name for node in made.nodes)
    assert before not in layouts and pool not in layouts
    assert layouts[soft] == layouts[last] == plain(4)


def test_a_reshape_sinks_below_a_sum() -> None:
    def make(b: Builder, x: Value) -> Value:
        w = b.map(None, (4, 4))
        product = b.emit("matmul", reshaped(b, x, (6, 4)), w, out=(6, 4))
        return b.emit("add", reshaped(b, product, (2, 3, 4)), x, out=(2, 3, 4))

    made = network(make, 2, 3, 4)
    settled, _ = settle(made, border=True)
    kernels = [[n.opcode for n in kernel.nodes] for kernel in partition(settled)]
    assert [k for k in kernels if k != ["alias"]] == [["matmul", "add"]]


def test_equal_instructions_are_one_and_unread_ones_none() -> None:
    def make(b: Builder, x: Value) -> Value:
        b.emit("exp", x, out=x.shape)
        return b.emit("add", relu(b, x), relu(b, x), out=x.shape)

    made = network(make)
    assert [node.opcode for node in made.nodes] == ["relu", "add"]
