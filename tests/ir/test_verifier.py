"""Every rule of the verifier, with its reason; the bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gos_fx.errors import VerifyError
from gos_fx.ir.dim import symbol
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.ir.rewriter import Editor, insert_after
from gos_fx.ir.types import Type
from gos_fx.ir.verifier import Bounds, check_bounds, count, verify


def refused(graph: Graph) -> str:
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    return caught.value.what


def test_a_valid_graph_is_returned(conv: Graph) -> None:
    assert verify(conv) is conv


def test_inputs_of_one_name(conv: Graph) -> None:
    twice = replace(conv, inputs=(*conv.inputs, conv.inputs[0]))
    assert refused(twice) == "two inputs share a name"


def test_values_of_one_name(conv: Graph) -> None:
    twice = replace(conv, nodes=(*conv.nodes, conv.nodes[-1]))
    assert refused(twice) == "v3 is defined twice"


def test_use_before_definition(conv: Graph) -> None:
    first, second, *rest = conv.nodes
    swapped = replace(conv, nodes=(second, first, *rest))
    assert refused(swapped) == "v0 is used before it is defined"


def test_undefined_output(conv: Graph) -> None:
    assert refused(replace(conv, output="v9")) == "v9 is not defined"


def test_a_type_that_the_instruction_does_not_give(conv: Graph) -> None:
    *nodes, last = conv.nodes
    wrong = replace(last, type=Type("map", (symbol("N"), symbol("C_out"))))
    assert refused(replace(conv, nodes=(*nodes, wrong))) == (
        "relu gives map[N, C_out, H_out, W_out], not map[N, C_out]"
    )


def test_a_value_that_nobody_reads(conv: Graph) -> None:
    assert refused(replace(conv, output="v1")) == "b does not reach the output"
    text = conv.text.replace(
        "v3 = relu(v2, slope=0.0)", "v3 = relu(v2, slope=0.0)\n    v4 = sigmoid(v2)"
    )
    assert refused(parse(text)) == "v4 does not reach the output"


def test_an_output_of_weights_alone() -> None:
    text = """\
def f(*, w: weight[C_out, C_in]) -> weight[C_in, C_out]:
    v0 = transpose(w, axes=(1, 0))
    return v0"""
    assert refused(parse(text)) == "the output does not depend on a map"


@pytest.mark.parametrize("opcode", ["tile", "unroll"])
def test_two_schedules_of_one_kind_on_a_value(opcode: str) -> None:
    text = f"""\
def f(x: map[N, C]) -> map[N, C]:
    v0 = relu(x)
    v1 = {opcode}(v0, co=4)
    v2 = {{}}
    v3 = {opcode}({{}}, n=2)
    return v3"""
    between = text.format("tanh(v1)", "v2")
    assert verify(parse(between))
    other = "unroll" if opcode == "tile" else "tile"
    assert refused(parse(text.format(f"{other}(v1, co=2)", "v2"))) == (
        f"v0 has two of {opcode}"
    )
    beside = text.format("tanh(v0)", "v0")
    assert (
        refused(
            parse(
                beside.replace(
                    "return v3", "v4 = add(v3, v2)\n    v5 = add(v4, v1)\n    return v5"
                )
            )
        )
        == f"v0 has two of {opcode}"
    )


def test_a_schedule_of_an_input() -> None:
    text = "def f(x: map[N, C]) -> map[N, C]:\n    v0 = tile(x, co=4)\n    return v0"
    assert refused(parse(text)) == "tile stands on no instruction"


def chain(length: int, *, free: int = 0) -> Graph:
    lines = ["def f(x: map[N, C]) -> map[N, C]:", "    v0 = relu(x)"]
    lines += [f"    v{i} = tanh(v{i - 1})" for i in range(1, length)]
    for i in range(length, length + free):
        lines.append(f"    v{i} = reshape(v{i - 1}, shape=(N, C))")
    return parse("\n".join([*lines, f"    return v{length + free - 1}"]))


def test_what_counts() -> None:
    assert count(chain(5)) == (5, 4)
    # Structure and schedule are free, and hand on the instruction behind them.
    assert count(chain(5, free=3)) == (5, 4)
    text = """\
def f(x: map[N, C_in, H, W], *, w: weight[C_in, C_in, 3, 3]) -> map[N, C_in, H, W]:
    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = tile(v1, co=8)
    v3 = relu(v2)
    v4 = add(v3, v2)
    return v4"""
    assert count(parse(text)) == (4, 4)


def test_bounds() -> None:
    check_bounds(chain(20), Bounds())
    with pytest.raises(VerifyError, match="21 instructions, at most 20"):
        check_bounds(chain(21), Bounds())
    with pytest.raises(VerifyError, match="4 edges, at most 3"):
        check_bounds(chain(5), Bounds(edges=3))
    # An original beyond the bounds may be kept or made smaller, but not grow.
    check_bounds(chain(24), Bounds(), original=chain(24))
    with pytest.raises(VerifyError, match="25 instructions, at most 24"):
        check_bounds(chain(25), Bounds(), original=chain(24))


def test_the_body_of_a_scan_has_the_bounds_to_itself() -> None:
    steps = "\n".join(
        ["        v0 = add(x, h)"]
        + [f"        v{i} = tanh(v{i - 1})" for i in range(1, 4)]
    )
    graph = parse(
        f"""\
def f(x: map[N, T, C], s: map[N, C]) -> map[N, T, C]:
    def cell(x: map[N, C], h: map[N, C]) -> map[N, C]:
{steps}
        return v3
    v0 = relu(x)
    v1 = scan(v0, s, body=cell, states=("h",))
    v2 = result(v1, index=0)
    v3 = relu(v2)
    return v3"""
    )
    assert count(graph) == (2, 1)
    check_bounds(graph, Bounds(nodes=4, edges=3))
    with pytest.raises(VerifyError, match="4 instructions, at most 3") as caught:
        check_bounds(graph, Bounds(nodes=3, edges=3))
    assert caught.value.where == "cell"
    check_bounds(graph, Bounds(nodes=3, edges=3), original=graph)


def test_edits_leave_schedule_nodes_the_loops_that_there_are(conv: Graph) -> None:
    text = conv.text.replace(
        "v2 = add(v1, b)", "t = unroll(v1, ci=2, wo=4)\n    v2 = add(t, b)"
    )
    graph = verify(parse(text))

    def shares(b: Editor, v: tuple[str, ...]) -> str:
        return b.emit("softmax", *v, axis="co")

    found = verify(insert_after(graph, "v1", shares))
    (node,) = (n for n in found.nodes if n.opcode == "unroll")
    assert node.attrs == {"wo": 4}


def test_a_free_node_hands_on_all_that_it_reads() -> None:
    graph = parse("""\
def f(x: map[2, 4]) -> map[2, 4]:
    v0 = relu(x, slope=0.0)
    v1 = sigmoid(x)
    v2 = div(v0, v1)
    v3 = tanh(v2)
    return v3""")
    assert count(graph) == (3, 2)
