"""Edits give canonical graphs, typed anew."""

from __future__ import annotations

import pytest

from gos_fx.errors import VerifyError
from gos_fx.ir.dim import ceildiv, minimum, symbol
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.ir.projection import Projection
from gos_fx.ir.rewriter import (
    Editor,
    insert_after,
    prune,
    replace_node,
    splice,
    substitute_dim,
)
from gos_fx.ir.types import Type
from gos_fx.ir.verifier import verify

C_OUT = symbol("C_out")


def gained(graph: Graph, node: str) -> Graph:
    """A gain per channel behind a value."""
    init = Projection("ones", (), (("size", C_OUT),))

    def build(b: Editor, v: tuple[str, ...]) -> str:
        return b.emit("hadamard", *v, b.weight(Type("weight", (C_OUT,)), init))

    return verify(insert_after(graph, node, build))


def test_insert_stands_before_all_readers(conv: Graph) -> None:
    found = insert_after(conv, "v1", lambda b, v: b.emit("tanh", *v))
    assert [n.opcode for n in found.nodes] == [
        *("cross_correlation", "sum", "tanh", "add", "relu"),
    ]
    assert found.by_name["v3"].operands == ("v2", "b")
    at_input = insert_after(conv, "x", lambda b, v: b.emit("tanh", *v))
    assert at_input.by_name["v1"].operands == ("v0", "w")
    at_output = insert_after(conv, "v3", lambda b, v: b.emit("tanh", *v))
    assert at_output.output == "v4" and at_output.by_name["v4"].opcode == "tanh"


def test_replace_drops_what_is_no_longer_read(conv: Graph) -> None:
    found = verify(replace_node(conv, "v2", lambda b, v: v[0]))
    assert [v.name for v in found.inputs] == ["x", "w"]
    assert [n.name for n in found.nodes] == ["v0", "v1", "v2"]
    assert found.by_name["v2"].operands == ("v1",)


def test_replace_refuses_what_does_not_fit(conv: Graph) -> None:
    with pytest.raises(VerifyError, match="do not fit"):
        replace_node(conv, "v1", lambda b, v: "x")


def test_names_of_new_weights_do_not_depend_on_the_order_of_edits(conv: Graph) -> None:
    one = gained(gained(conv, "v3"), "v1")
    other = gained(gained(conv, "v1"), "v4")
    assert one == other and one.text == other.text and one.digest == other.digest
    assert [v.name for v in one.weights] == ["w", "w1", "b", "w2"]


def test_a_new_weight_never_takes_an_original_name() -> None:
    graph = parse(
        "def f(x: map[N, C_out], *, w1: weight[C_out]) -> map[N, C_out]:\n"
        "    v0 = add(x, w1)\n    return v0"
    )
    found = gained(graph, "v0")
    assert [v.name for v in found.weights] == ["w1", "w2"]
    assert found.weights[0].init is None and found.weights[1].init is not None


def test_prune_is_idempotent_and_canonical(conv: Graph) -> None:
    messy = parse(
        """\
def f(x: map[N, C_out], *, w7: weight[C_out] = ones(size=C_out), w3: weight[C_out] = ones(size=C_out), u: weight[C_out]) -> map[N, C_out]:
    v0 = tanh(x)
    v1 = hadamard(x, w3)
    v2 = hadamard(v1, w7)
    return v2"""  # noqa: E501
    )
    once = prune(messy)
    assert once.text == (
        "def f(x: map[N, C_out], *, w1: weight[C_out] = ones(size=C_out), "
        "w2: weight[C_out] = ones(size=C_out)) -> map[N, C_out]:\n"
        "    v0 = hadamard(x, w1)\n"
        "    v1 = hadamard(v0, w2)\n"
        "    return v1"
    )
    assert prune(once) == once
    assert prune(conv) == conv


def test_splice_joins_equal_weights_and_keeps_unequal_ones(conv: Graph) -> None:
    a, b = gained(conv, "v1"), gained(conv, "v3")
    child = verify(splice(a, "v2", b, "v1"))  # a up to its gain, then all of b
    assert [n.opcode for n in child.nodes] == [
        *("cross_correlation", "sum", "hadamard", "add", "relu", "hadamard"),
    ]
    # Type and projection of both gains are equal: they are one weight.
    assert [v.name for v in child.weights] == ["w", "w1", "b"]
    # With another projection there are two.
    other = parse(b.text.replace("ones(size=C_out)", "left_factor(b, rank=1)"))
    child = verify(splice(a, "v2", other, "v1"))
    assert [v.name for v in child.weights] == ["w", "w1", "b", "w2"]
    assert str(child.weights[3].init) == "left_factor(b, rank=1)"


def test_splice_brings_other_operands_with_their_ancestors(conv: Graph) -> None:
    b = parse(
        """\
def conv2d(x: map[N, C_in, H, W], *, w: weight[C_out, C_in, K_h, K_w], b: weight[C_out]) -> map[N, C_out, H_out, W_out]:
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = max(v0, axis="ci")
    v3 = add(v1, v2)
    v4 = add(v3, b)
    return v4"""  # noqa: E501
    )
    child = verify(splice(conv, "v3", b, "v1"))
    assert [n.opcode for n in child.nodes] == [
        *("cross_correlation", "sum", "add", "relu"),
        *("cross_correlation", "max", "add", "add"),
    ]


def test_substitute_dim_reaches_types_and_projections() -> None:
    old = ceildiv(4 * minimum(symbol("C_in"), C_OUT), 8)
    new = ceildiv(2 * minimum(symbol("C_in"), C_OUT), 8)
    graph = parse(
        f"""\
def f(x: map[N, C_in], *, w1: weight[{old}, C_in] = right_factor(w, rank={old}), w2: weight[C_out, {old}] = left_factor(w, rank={old})) -> map[N, C_out]:
    v0 = transpose(w1, axes=(1, 0))
    v1 = matmul(x, v0)
    v2 = transpose(w2, axes=(1, 0))
    v3 = matmul(v1, v2)
    return v3"""  # noqa: E501
    )
    found = verify(substitute_dim(graph, old, new))
    assert str(old) not in found.text and found.text.count(str(new)) == 4
    assert substitute_dim(found, new, old) == graph
