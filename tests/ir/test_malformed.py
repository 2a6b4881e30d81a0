"""Malformed graphs and texts, kind by kind: each is refused, for the exact reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gos_fx.errors import GosError
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.parser import parse
from gos_fx.ir.projection import Projection
from gos_fx.ir.types import Type
from gos_fx.ir.verifier import verify

PLAIN = Type("map", (2, 4))


def body(*lines: str, head: str = "x: map[2, 4]", result: str = "map[2, 4]") -> str:
    """A graph of these statements, the last of which is its value."""
    last = lines[-1].split(" = ")[0]
    return "\n    ".join([f"def f({head}) -> {result}:", *lines, f"return {last}"])


def scan(
    cell: str = "h1 = add(x, h)",
    *,
    head: str = "x: map[2, 4], h: map[2, 4]",
    output: str = "h1",
    call: str = 'scan(x, s, body=cell, states=("h",))',
) -> str:
    return f"""\
def f(x: map[2, 3, 4], s: map[2, 4]) -> map[2, 3, 4]:
    def cell({head}) -> map[2, 4]:
        {cell}
        return {output}
    v0 = {call}
    v1 = result(v0, index=0)
    return v1"""


CONV = "x: map[2, 6, 8, 8], *, w: weight[4, 3, 3, 3]"

# Kind -> text, whole message.
TEXTS = {
    "no text": ("", "expected one def (graph text)"),
    "two graphs": (
        body("v0 = relu(x)") + "\n" + body("v0 = relu(x)"),
        "expected one def (graph text)",
    ),
    "broken syntax": (
        "def f(x: map[2, 4]",
        "not a graph: '(' was never closed (<unknown>, line 1) (graph text)",
    ),
    "bodies without end": (
        "".join(f"{' ' * i}def f(x: map[1]) -> map[1]:\n" for i in range(200)),
        "not a graph: too many levels of indentation (<unknown>, line 101) "
        "(graph text)",
    ),
    "a size without end": (
        body("v0 = relu(x)", head=f"x: map[{'+'.join(['N'] * 20000)}]"),
        "nested too deeply (graph text)",
    ),
    "nothing returned": (
        "def f(x: map[2, 4]) -> map[2, 4]:\n    v0 = relu(x)",
        "no value is returned (f)",
    ),
    "another result than promised": (
        body("v0 = relu(x)", result="map[2, 5]"),
        "declared to return map[2, 5], but returns map[2, 4] (f)",
    ),
    "an unknown instruction": (
        body("v0 = launch(x)"),
        "unknown instruction: launch(x) (line 2)",
    ),
    "an unknown operand": (
        body("v0 = relu(y)"),
        "an operand must be an earlier value: y (line 2)",
    ),
    "a value that reads itself": (
        body("v0 = add(x, v0)"),
        "an operand must be an earlier value: v0 (line 2)",
    ),
    "a number as operand": (
        body("v0 = add(x, 1.0)"),
        "an operand must be an earlier value: 1.0 (line 2)",
    ),
    "a role that does not exist": (
        body("v0 = relu(x)", head="x: tensor[2, 4]"),
        "expected one of map[...], weight[...], constant[...], scalar[...], or "
        "several in brackets",
    ),
    "an unknown projection": (
        body("v0 = add(x, w)", head="x: map[2, 4], *, w: weight[4] = guess(size=4)"),
        "unknown projection: guess(size=4) (line 1)",
    ),
    "a second definition": (
        body("v0 = relu(x)", "v0 = tanh(v0)"),
        "v0 is defined twice (f)",
    ),
    "too many operands": (
        body("v0 = relu(x, x)"),
        "relu takes 1 operands, not 2 (relu)",
    ),
    "an unknown attribute": (
        body("v0 = relu(x, angle=1.0)"),
        "unknown attribute angle (relu). use slope",
    ),
    "a missing attribute": (
        body("v0 = transpose(x)"),
        "missing attribute axes (transpose)",
    ),
    "an attribute of another kind": (
        body("v0 = relu(x, slope=1)"),
        "slope=1 is not a real (relu)",
    ),
    "too few entries": (
        body(
            "v0 = max_pool(x, kernel=(3,))",
            head="x: map[1, 4, 8, 8]",
            result="map[1, 4, 8, 8]",
        ),
        "kernel=(3,) has not 2 entries (max_pool)",
    ),
    "an axis that a value lacks": (
        body('v0 = softmax(x, axis="ho")'),
        "a value of rank 2 has no axis 'ho'",
    ),
    "an axis twice": (
        body("v0 = transpose(x, axes=(0, 0))"),
        "(0, 0) is no permutation of the axes of map[2, 4]",
    ),
    "another number of elements": (
        body("v0 = reshape(x, shape=(3, 3))"),
        "map[2, 4] cannot take the shape ('3', '3')",
    ),
    "shapes that do not fit": (
        body("v0 = add(x, y)", head="x: map[2, 4], y: map[3, 4]"),
        "shapes of map[2, 4] and map[3, 4] do not fit",
    ),
    "matrices that do not fit": (
        body("v0 = matmul(x, x)"),
        "map[2, 4] and map[2, 4] cannot be multiplied",
    ),
    "different dtypes": (
        body("v0 = add(x, y)", head="x: map[2, 4], y: map[2, 4, float64]"),
        "operands differ in dtype (add)",
    ),
    "groups that do not divide": (
        body(
            "v0 = cross_correlation(x, w, groups=5)",
            head="x: map[2, 6, 8, 8], *, w: weight[4, 1, 3, 3]",
        ),
        "5 groups do not divide the channels of map[2, 6, 8, 8], weight[4, 1, 3, 3]",
    ),
    "a filter of other channels": (
        body("v0 = cross_correlation(x, w, groups=1)", head=CONV),
        "weight[4, 3, 3, 3] does not fit map[2, 6, 8, 8] in 1 groups",
    ),
    "a number out of range": (
        body("v0 = bundle(x, x)", "v1 = result(v0, index=-1)"),
        "index=-1 is below 0 (result)",
    ),
    "a bundle as a value": (
        body("v0 = bundle(x, x)", "v1 = relu(v0)"),
        "operand x is a bundle of 2: take one with result() (relu)",
    ),
    "a bundle of bundles": (
        body("v0 = bundle(x, x)", "v1 = bundle(v0, x)"),
        "a bundle holds values, not bundles",
    ),
    "a result of one value": (
        body("v0 = result(x, index=0)"),
        "result takes a bundle, not map[2, 4]",
    ),
    "a result beyond the last": (
        body("v0 = bundle(x, x)", "v1 = result(v0, index=2)"),
        "result 2 of 2",
    ),
    "a body that is not there": (
        body('v0 = scan(x, x, body=cell, states=("h",))'),
        "there is no body of this name: cell (line 2)",
    ),
    "a body of other operands": (
        scan(call='scan(x, body=cell, states=("h",))'),
        "cell takes 2 values, not 1",
    ),
    "a state of another type": (
        scan(head="x: map[2, 4], h: map[2, 5]", cell="h1 = tanh(x)"),
        "cell takes map[2, 5] as h, not map[2, 4]",
    ),
    "a state that the body lacks": (
        scan(call='scan(x, s, body=cell, states=("c",))'),
        "cell has no map input c",
    ),
    "a state named twice": (
        scan(call='scan(x, s, body=cell, states=("h", "h"))'),
        "states must be named, each once",
    ),
    "a step that is no sequence": (
        scan(call='scan(s, s, body=cell, states=("h",))'),
        "cell takes map[2, 4] as x, not map[2]",
    ),
    "another next state": (
        scan(cell="h1 = bundle(x, h)").replace(
            "def cell(x: map[2, 4], h: map[2, 4]) -> map[2, 4]",
            "def cell(x: map[2, 4], h: map[2, 4]) -> (map[2, 4], map[2, 4])",
        ),
        "cell gives (map[2, 4], map[2, 4]), not the next states",
    ),
    "a tile of a loop that nobody has": (
        body("v0 = relu(x)", "v1 = tile(v0, foo=4)"),
        "there is no loop foo. use n, t, co, ho, wo, ci, kh, kw",
    ),
    "a tile of nothing": (body("v0 = relu(x)", "v1 = tile(v0)"), "names no loop"),
    "a tile below one": (
        body("v0 = relu(x)", "v1 = tile(v0, co=0)"),
        "co=0 is below one",
    ),
    "a schedule of an input": (
        body("v0 = tile(x, co=4)"),
        "tile stands on no instruction (f)",
    ),
    "a loop that the instruction lacks": (
        body("v0 = relu(x)", "v1 = unroll(v0, ci=2)"),
        "relu has no loop ci (f, v1). use n, co",
    ),
    "two tiles of a value": (
        body("v0 = relu(x)", "v1 = tile(v0, co=4)", "v2 = tile(v1, n=2)"),
        "v0 has two of tile (f)",
    ),
    "a value that nobody reads": (
        body("v0 = relu(x)", "v1 = tanh(x)"),
        "v0 does not reach the output (f)",
    ),
    "a part that nobody takes out": (
        body("v0 = relu(x)", "v1 = bundle(x, v0)", "v2 = result(v1, index=0)"),
        "v0 does not reach the output (f)",
    ),
    "a state that nobody reads": (
        scan(cell="h1 = tanh(x)"),
        "h does not reach the output (cell)",
    ),
    "an output of weights alone": (
        body("v0 = tanh(w)", head="*, w: weight[4]", result="weight[4]"),
        "the output does not depend on a map (f)",
    ),
    "an input that is a bundle": (
        body("v0 = result(x, index=0)", head="x: (map[2, 4], map[2, 4])"),
        "an input is one value, not a bundle (f, x)",
    ),
    "a scalar as input": (
        body("v0 = add(x, s)", head="x: map[2, 4], *, s: scalar[()]"),
        "a scalar is written in the graph, not an input (f, s)",
    ),
    "a map with a projection": (
        body("v0 = add(x, y)", head="x: map[2, 4], *, y: map[2, 4] = ones(size=4)"),
        "a map has no projection (f, y)",
    ),
    "a size below one": (
        body("v0 = relu(x)", head="x: map[2, 0]", result="map[2, 0]"),
        "size 0 of map[2, 0] (f, x)",
    ),
    "a window larger than what it sees": (
        body(
            "v0 = max_pool(x, kernel=(5, 1), stride=(1, 1), padding=(0, 0, 0, 0))",
            head="x: map[1, 4, 2, 2]",
            result="map[1, 4, -2, 2]",
        ),
        "size -2 of map[1, 4, -2, 2] (f, v0)",
    ),
}


def changed(index: int, **fields: object) -> Callable[[Graph], Graph]:
    """Another value of some fields of a node."""

    def change(graph: Graph) -> Graph:
        nodes = list(graph.nodes)
        nodes[index] = replace(nodes[index], **fields)  # type: ignore[arg-type]
        return replace(graph, nodes=tuple(nodes))

    return change


def with_input(value: Input) -> Callable[[Graph], Graph]:
    return lambda graph: replace(graph, inputs=(*graph.inputs, value))


def nested(graph: Graph) -> Graph:
    """Scans within scans within scans."""
    cell = parse(
        "def cell(x: map[2, 4], h: map[2, 4]) -> map[2, 4]:\n"
        "    v0 = add(x, h)\n    return v0"
    )
    for _ in range(4):
        step = Type("map", (2, 1, 4))
        attributes = (("body", cell), ("states", ("h",)))
        whole = Type("map", (), parts=(step,))
        nodes = (
            Node("v0", "reshape", ("x",), (("shape", (2, 1, 4)),), step),
            Node("v1", "scan", ("v0", "h"), attributes, whole),
            Node("v2", "result", ("v1",), (("index", 0),), step),
            Node("v3", "reshape", ("v2",), (("shape", (2, 4)),), PLAIN),
        )
        cell = Graph("cell", (Input("x", PLAIN), Input("h", PLAIN)), nodes, "v3")
    return cell


# Kind -> change of f(x) = tanh(relu(x)), whole message. No text says these.
GRAPHS: dict[str, tuple[Callable[[Graph], Graph], str]] = {
    "an instruction that is not in the table": (
        changed(0, opcode="rellu"),
        "there is no instruction rellu (f, v0). Did you mean 'relu'?",
    ),
    "a use before the definition": (
        lambda g: replace(g, nodes=g.nodes[::-1]),
        "v0 is used before it is defined (f, v1)",
    ),
    "two inputs of one name": (
        lambda g: replace(g, inputs=g.inputs * 2),
        "two inputs share a name (f)",
    ),
    "two values of one name": (
        lambda g: replace(g, nodes=(*g.nodes, g.nodes[1])),
        "v1 is defined twice (f)",
    ),
    "an undefined output": (
        lambda g: replace(g, output="v9"),
        "v9 is not defined (f)",
    ),
    "a type that the instruction does not give": (
        changed(1, type=Type("map", (2, 5))),
        "tanh gives map[2, 4], not map[2, 5] (f, v1)",
    ),
    "another role": (
        changed(1, type=Type("weight", (2, 4))),
        "tanh gives map[2, 4], not weight[2, 4] (f, v1)",
    ),
    "an attribute given twice": (
        changed(0, attributes=(("slope", 0.0), ("slope", 0.1))),
        "an attribute is given twice (f, v0)",
    ),
    "an attribute that is not a number": (
        changed(0, attributes=(("slope", float("nan")),)),
        "slope=nan is not a real (f, v0: relu)",
    ),
    "a name that is none": (
        changed(0, name="v 0"),
        "'v 0' is not a name (f)",
    ),
    "a keyword as a name": (
        lambda g: replace(g, name="lambda"),
        "'lambda' is not a name (lambda)",
    ),
    "a dtype that does not exist": (
        with_input(Input("w", Type("weight", (4,), "float8"))),
        "'float8' is no dtype (f, w)",
    ),
    "a role of nothing": (
        with_input(Input("w", Type("tensor", (4,)))),
        "'tensor' is no role (f, w)",
    ),
    "a projection of a map": (
        with_input(Input("y", PLAIN, Projection("ones", (), (("size", 4),)))),
        "a map has no projection (f, y)",
    ),
    "bodies that are nested too deeply": (
        nested,
        "bodies are nested deeper than 3 (cell)",
    ),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts(kind: str) -> None:
    text, message = TEXTS[kind]
    with pytest.raises(GosError) as caught:
        verify(parse(text))
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", GRAPHS)
def test_graphs(kind: str) -> None:
    change, message = GRAPHS[kind]
    sound = verify(parse(body("v0 = relu(x)", "v1 = tanh(v0)")))
    with pytest.raises(GosError) as caught:
        verify(change(sound))
    assert str(caught.value) == message


def test_there_are_kinds_enough() -> None:
    messages = [message for _, message in (*TEXTS.values(), *GRAPHS.values())]
    assert len(set(messages)) >= 60
