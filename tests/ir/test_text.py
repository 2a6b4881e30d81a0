"""Text form: graph -> text -> graph, and refusal of all other text."""

from __future__ import annotations

from pathlib import Path

import pytest

from gos_fx.errors import GosError, ParseError, VerifyError
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.ir.verifier import verify

X = "x: map[N, C_in, H, W]"
GRAPHS = {
    "schedule": f"""\
def conv2d({X}, *, w: weight[C_out, C_in, 3, 3]) -> map[N, C_out, H, W]:
    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 2), groups=1)
    v1 = sum(v0, axis="ci")
    v2 = tile(v1, co=8, wo=7)
    v3 = unroll(v2, ci=2)
    return v3""",
    "projections": f"""\
def conv2d({X}, *, w1: weight[ceildiv(4 * min(C_in, C_out), 8), C_in // 2, 3, 3] = blocks(narrow(w, rank=ceildiv(4 * min(C_in, C_out), 8)), groups=2), w2: weight[C_out, ceildiv(4 * min(C_in, C_out), 8), 1, 1] = expand(w, rank=ceildiv(4 * min(C_in, C_out), 8)), w3: weight[C_out] = ones(size=C_out)) -> map[N, C_out, H_out, W_out]:
    v0 = cross_correlation(x, w1, stride=(S_h, S_w), dilation=(1, 1), groups=2)
    v1 = sum(v0, axis="ci")
    v2 = cross_correlation(v1, w2, stride=(1, 1), dilation=(1, 1), groups=1)
    v3 = mean(v2, axis="ci")
    v4 = hadamard(v3, w3)
    return v4""",  # noqa: E501
    "constants": """\
def batchnorm2d(x: map[N, C_in, H, W], *, mean: constant[C_in], var: constant[C_in], gain: weight[C_in]) -> map[N, C_in, H, W]:
    v0 = sub(x, mean)
    v1 = sqrt(var)
    v2 = div(v0, v1)
    v3 = hadamard(v2, gain)
    return v3""",  # noqa: E501
    "concrete": """\
def pools(x: map[2, 3, 8, 8]) -> map[2, 48]:
    v0 = avg_pool(x, kernel=(3, 3), stride=(2, 2), include_pad=True, padding=(1, 0, 1, 0))
    v1 = relu(v0, slope=0.01)
    v2 = reshape(v1, shape=(2, 48))
    return v2""",  # noqa: E501
    "two maps": """\
def join(x: map[N, C_in, H, W], y: map[N, C_in, H, W]) -> map[N, C_in + C_in, H, W]:
    v0 = concat(x, y, axis="co")
    v1 = max_pool(v0, kernel=(3, 3), stride=(1, 1))
    return v1""",
    "float64": """\
def linear(x: map[N, C_in, float64], *, w: weight[C_out, C_in, float64]) -> map[N, C_out, float64]:
    v0 = transpose(w, axes=(1, 0))
    v1 = matmul(x, v0)
    return v1""",  # noqa: E501
}


@pytest.mark.parametrize("name", GRAPHS)
def test_text_and_graph_are_inverse(name: str) -> None:
    graph = verify(parse(GRAPHS[name]))
    assert graph.text == GRAPHS[name]
    again = parse(graph.text)
    assert again == graph and hash(again) == hash(graph)
    assert again.digest == graph.digest


def test_concrete_text_round_trip(
    conv: Graph, sites: tuple[dict[str, int], ...]
) -> None:
    for bindings in sites:
        concrete = conv.instantiate(bindings)
        assert "padding=(" in concrete.text
        assert parse(concrete.text) == concrete
        assert concrete.is_concrete and not conv.is_concrete


def test_names_of_nodes_do_not_matter() -> None:
    text = GRAPHS["two maps"]
    other = text.replace("v0", "joined").replace("v1", "result")
    assert parse(other) == parse(text)


def relu(body: str, head: str = "x: map[N, C]", result: str = "map[N, C]") -> str:
    return f"def f({head}) -> {result}:\n    {body}\n    return v0"


REFUSED = {
    "nothing": "",
    "an expression": "1 + 1",
    "an import": "import os",
    "an import behind a graph": relu("v0 = relu(x)") + "\nimport os",
    "an import inside": relu("import os"),
    "a class": "class f: pass",
    "an async def": "async " + relu("v0 = relu(x)"),
    "a syntax error": "def f(",
    "a null byte": "def f(x: map[N]):\n    return x\0",
    "a call": "print('hello')",
    "unknown instruction": relu("v0 = launch(x)"),
    "a builtin": relu("v0 = eval('1')"),
    "a method": relu("v0 = x.relu()"),
    "an attribute": relu("v0 = relu(x.data)"),
    "a dunder": relu("v0 = ().__class__.__bases__()"),
    "a nested call": relu("v0 = relu(relu(x))"),
    "a number as operand": relu("v0 = add(x, 1)"),
    "a star operand": relu("v0 = relu(*x)"),
    "star attributes": relu("v0 = relu(x, **x)"),
    "an unknown operand": relu("v0 = relu(y)"),
    "an expression statement": relu("relu(x)"),
    "a double target": relu("v0 = v1 = relu(x)"),
    "a tuple target": relu("v0, v1 = relu(x)"),
    "a loop": relu("for i in x: pass"),
    "a comprehension": relu("v0 = relu(x, slope=[1 for i in x])"),
    "a lambda": relu("v0 = relu(x, slope=lambda: 1)"),
    "a docstring": relu("'text'"),
    "no return": "def f(x: map[N, C]) -> map[N, C]:\n    v0 = relu(x)",
    "return of nothing": "def f(x: map[N, C]) -> map[N, C]:\n    return",
    "return of a call": "def f(x: map[N, C]) -> map[N, C]:\n    return relu(x)",
    "code behind the return": relu("v0 = relu(x)") + "\n    v1 = relu(x)",
    "another result": relu("v0 = relu(x)", result="map[N, D]"),
    "no result": "def f(x: map[N, C]):\n    v0 = relu(x)\n    return v0",
    "an untyped input": relu("v0 = relu(x)", "x"),
    "another role": relu("v0 = relu(x)", "x: tensor[N, C]"),
    "a called type": relu("v0 = relu(x)", "x: map(N, C)"),
    "a string as size": relu("v0 = relu(x)", "x: map['N', C]"),
    "an ellipsis": relu("v0 = relu(x)", "x: map[...]"),
    "a slice": relu("v0 = relu(x)", "x: map[1:2]"),
    "a decorator": "@print\n" + relu("v0 = relu(x)"),
    "a default of a map": relu("v0 = relu(x)", "x: map[N, C] = print('hello')"),
    "star arguments": relu("v0 = relu(x)", "x: map[N, C], *y: map[N, C]"),
    "star keywords": relu("v0 = relu(x)", "x: map[N, C], **y: map[N, C]"),
    "positional-only inputs": relu("v0 = relu(x)", "x: map[N, C], /"),
    "a type parameter": relu("v0 = relu(x)").replace("def f(", "def f[T]("),
    "unknown projection": relu(
        "v0 = add(x, w)", "x: map[N, C], *, w: weight[C] = open('/etc/passwd')"
    ),
    "a projection's stars": relu(
        "v0 = add(x, w)", "x: map[N, C], *, w: weight[C] = ones(**C)"
    ),
    "a projection's attribute": relu(
        "v0 = add(x, w)", "x: map[N, C], *, w: weight[C] = ones(a.b, size=C)"
    ),
    "deep nesting": relu("v0 = relu(x, slope=" + "(" * 5000 + ")" * 5000 + ")"),
    "a deep sum": relu("v0 = relu(x)", f"x: map[{'+'.join(['N'] * 20000)}]"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_graph_is_refused(what: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(REFUSED[what])
    assert str(caught.value)


# Well-formed text with operands or attributes that the instruction does not take.
MISTYPED = {
    "unknown attribute": ("v0 = relu(x, angle=1.0)", "unknown attribute angle"),
    "an attribute called name": ("v0 = relu(x, name=1.0)", "unknown attribute name"),
    "an attribute called x": ("v0 = tile(x, x=4)", "there is no loop x"),
    "an integer slope": ("v0 = relu(x, slope=1)", "slope=1 is not a real"),
    "no such axis": ('v0 = softmax(x, axis="ho")', "rank 2 has no axis 'ho'"),
    "too many operands": ("v0 = relu(x, x)", "relu takes 1 operands, not 2"),
    "no operand": ("v0 = relu()", "relu takes 1 operands, not 0"),
    "another element count": ("v0 = reshape(x, shape=(N, 7))", "cannot take the shape"),
    "a rank": ("v0 = max_pool(x)", "operand x has rank 2, not 4"),
    "a loop": ("v0 = tile(x, foo=4)", "there is no loop foo"),
    "a tile of nothing": ("v0 = tile(x)", "names no loop"),
    "a tile below one": ("v0 = tile(x, co=0)", "co=0 is below one"),
    "a tile of text": ('v0 = tile(x, co="a")', "co='a' is not a size"),
    "a second definition": ("x = relu(x)", "x is defined twice"),
    "no permutation": ("v0 = transpose(x, axes=(0, 0))", "no permutation"),
}


@pytest.mark.parametrize("what", MISTYPED)
def test_what_an_instruction_does_not_take(what: str) -> None:
    body, reason = MISTYPED[what]
    with pytest.raises(VerifyError) as caught:
        parse(relu(body))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "attributes",
    ["stride=(1,)", "stride=(1, 1, 1)", "stride=1", "padding=(1, 1)", "kernel=(3,)"],
)
def test_lengths_of_attributes(attributes: str) -> None:
    head = "x: map[1, 4, 8, 8]"
    with pytest.raises(VerifyError, match=r"is not a dims|has not"):
        parse(relu(f"v0 = max_pool(x, {attributes})", head, "map[1, 4, 8, 8]"))


def test_parsing_executes_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"open({str(trap)!r}, 'w')"
    for text in (
        code,
        relu(f"v0 = relu(x, slope={code})"),
        relu(f"v0 = {code}"),
        relu("v0 = relu(x)", f"x: map[N, {code}]"),
        relu("v0 = relu(x)", f"x: map[N, C] = {code}"),
        relu("v0 = add(x, w)", f"x: map[N, C], *, w: weight[C] = {code}"),
        relu("v0 = relu(x)", result=code),
        f"@{code}\n" + relu("v0 = relu(x)"),
    ):
        with pytest.raises(GosError):
            parse(text)
    assert not trap.exists()
