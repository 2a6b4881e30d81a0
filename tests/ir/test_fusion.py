"""partition: which instructions become one kernel."""

from __future__ import annotations

from dataclasses import replace

from gos_fx.ir.fusion import VIEW, partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.network import Network
from gos_fx.ir.parser import parse


def opcodes(graph: Graph) -> list[list[str]]:
    return [[n.opcode for n in kernel.nodes] for kernel in partition(graph)]


def conv_text(body: str, result: str, weights: str = "") -> Graph:
    head = "x: map[1, 8, 6, 6], *, w: weight[8, 8, 3, 3], b: weight[8]" + weights
    correlate = "stride=(1, 1), dilation=(1, 1), groups=1, padding=(1, 1, 1, 1)"
    text = f"def f({head}) -> {result}:\n"
    text += "\n".join(f"    {line}" for line in body.format(c=correlate).split("; "))
    return parse(text)


def test_a_convolution_with_its_epilogue_is_one_kernel() -> None:
    graph = conv_text(
        'v0 = cross_correlation(x, w, {c}); v1 = sum(v0, axis="ci"); v2 = add(v1, b); '
        "v3 = relu(v2); v4 = tile(v3, co=8, wo=7); v5 = unroll(v4, ci=2); return v5",
        "map[1, 8, 6, 6]",
    )
    (kernel,) = partition(graph)
    assert [n.opcode for n in kernel.nodes] == [
        *("cross_correlation", "sum", "add", "relu"),
    ]
    assert kernel.is_summed and kernel.anchor.name == "v0"
    assert kernel.inputs == ("x", "w", "b") and kernel.output == "v5"
    assert kernel.tile == (("co", 8), ("wo", 7)) and kernel.unroll == (("ci", 2),)


def test_a_schedule_in_the_middle_is_stepped_over() -> None:
    graph = conv_text(
        'v0 = cross_correlation(x, w, {c}); v1 = sum(v0, axis="ci"); '
        "v2 = tile(v1, co=4); v3 = add(v2, b); v4 = unroll(v3, kw=3); v5 = relu(v4); "
        "return v5",
        "map[1, 8, 6, 6]",
    )
    (kernel,) = partition(graph)
    assert [n.operands for n in kernel.nodes] == [
        *(("x", "w"), ("v0",), ("v1", "b"), ("v3",)),
    ]
    assert kernel.tile == (("co", 4),) and kernel.unroll == (("kw", 3),)


def test_a_residual_of_two_convolutions() -> None:
    graph = conv_text(
        'v0 = cross_correlation(x, w, {c}); v1 = sum(v0, axis="ci"); v2 = relu(v1); '
        'v3 = cross_correlation(v2, u, {c}); v4 = sum(v3, axis="ci"); '
        "v5 = add(v4, b); v6 = add(v5, x); v7 = relu(v6); return v7",
        "map[1, 8, 6, 6]",
        ", u: weight[8, 8, 3, 3]",
    )
    first, second = partition(graph)
    assert [n.opcode for n in first.nodes] == ["cross_correlation", "sum", "relu"]
    assert [n.opcode for n in second.nodes] == [
        *("cross_correlation", "sum", "add", "add", "relu"),
    ]
    assert second.inputs == ("v2", "u", "b", "x") and first.output == "v2"


def test_an_operand_that_comes_later_is_not_waited_for() -> None:
    # The sum of two convolutions: only the later one can take it in.
    graph = conv_text(
        'v0 = cross_correlation(x, w, {c}); v1 = sum(v0, axis="ci"); '
        'v2 = cross_correlation(x, u, {c}); v3 = sum(v2, axis="ci"); '
        "v4 = add(v1, v3); v5 = add(v4, b); return v5",
        "map[1, 8, 6, 6]",
        ", u: weight[8, 8, 3, 3]",
    )
    assert opcodes(graph) == [
        ["cross_correlation", "sum"],
        ["cross_correlation", "sum", "add", "add"],
    ]


def test_a_value_may_be_read_twice_inside_its_kernel() -> None:
    graph = conv_text(
        'v0 = cross_correlation(x, w, {c}); v1 = sum(v0, axis="ci"); v2 = add(v1, b); '
        "v3 = sigmoid(v2); v4 = hadamard(v2, v3); v5 = tanh(v4); return v5",
        "map[1, 8, 6, 6]",
    )
    assert opcodes(graph) == [
        ["cross_correlation", "sum", "add", "sigmoid", "hadamard", "tanh"],
    ]


def test_a_kernel_does_not_grow_beyond_what_can_be_compiled() -> None:
    body = 'v0 = cross_correlation(x, w, {c}); v1 = sum(v0, axis="ci"); '
    for i in range(2, 22, 2):  # each step reads what is before it twice
        body += f"v{i} = sigmoid(v{i - 1}); v{i + 1} = hadamard(v{i - 1}, v{i}); "
    graph = conv_text(f"{body}return v21", "map[1, 8, 6, 6]")
    sizes = [len(kernel.nodes) for kernel in partition(graph)]
    assert sum(sizes) == 22 and len(sizes) == 3 and max(sizes) <= 10


def test_a_value_read_outside_ends_its_kernel() -> None:
    # The pool needs v2, the product is one of v3 and v2.
    graph = conv_text(
        'v0 = cross_correlation(x, w, {c}); v1 = sum(v0, axis="ci"); v2 = add(v1, b); '
        "v3 = sigmoid(v2); v4 = max_pool(v2, kernel=(1, 1), stride=(1, 1), "
        "padding=(0, 0, 0, 0)); v5 = hadamard(v2, v3); v6 = add(v4, v5); return v6",
        "map[1, 8, 6, 6]",
    )
    assert opcodes(graph) == [
        ["cross_correlation", "sum", "add"],
        ["sigmoid", "hadamard"],
        ["max_pool", "add"],
    ]


def test_outputs_and_views_of_a_network_end_a_kernel() -> None:
    graph = conv_text(
        'v0 = cross_correlation(x, w, {c}); v1 = sum(v0, axis="ci"); v2 = add(v1, b); '
        "v3 = sigmoid(v2); v4 = hadamard(v2, v3); return v4",
        "map[1, 8, 6, 6]",
    )
    network = replace(Network.of(graph), outputs=("v3", "v4"))
    found = [[n.name for n in kernel.nodes] for kernel in partition(network)]
    assert found == [["v0", "v1", "v2"], ["v3"], ["v4"]]
    seen = replace(network.nodes[3], opcode=VIEW)
    nodes = (*network.nodes[:3], seen, network.nodes[4])
    kernels = partition(replace(network, nodes=nodes, outputs=("v4",)))
    assert [[n.name for n in kernel.nodes] for kernel in kernels] == [
        ["v0", "v1", "v2"],
        ["v4"],
    ]
    assert kernels[1].inputs == ("v2", "v3")


def test_max_over_the_maps_is_not_summed() -> None:
    for aggregate, summed in (("max", False), ("min", False), ("mean", True)):
        graph = conv_text(
            f'v0 = cross_correlation(x, w, {{c}}); v1 = {aggregate}(v0, axis="ci"); '
            "v2 = add(v1, b); return v2",
            "map[1, 8, 6, 6]",
        )
        kernels = partition(graph)
        assert len(kernels) == (1 if summed else 2)
        assert kernels[0].is_summed == summed


def test_weights_alone_are_a_kernel_of_their_own() -> None:
    graph = parse(
        """\
def linear(x: map[2, 8], *, w: weight[4, 8], b: weight[4]) -> map[2, 4]:
    v0 = transpose(w, axes=(1, 0))
    v1 = matmul(x, v0)
    v2 = add(v1, b)
    return v2"""
    )
    assert opcodes(graph) == [["transpose"], ["matmul", "add"]]
    constant, product = partition(graph)
    assert constant.nodes[-1].type.role == "weight"
    assert product.anchor.opcode == "matmul"


def test_every_instruction_is_in_exactly_one_kernel() -> None:
    graph = conv_text(
        'v0 = cross_correlation(x, w, {c}); v1 = sum(v0, axis="ci"); v2 = max_pool(v1, '
        "kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0)); v3 = reshape(v2, "
        "shape=(1, 72)); v4 = softmax(v3); v5 = tile(v4, co=4); v6 = tanh(v5); "
        "return v6",
        "map[1, 72]",
        "",
    )
    names = [n.name for kernel in partition(graph) for n in kernel.nodes]
    assert names == ["v0", "v1", "v2", "v3", "v4", "v6"]
    assert partition(graph)[-1].output == "v6"
