"""What may take an operator's place."""

from __future__ import annotations

import pytest

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.ir.replacement import check_replacement, check_result, in_shape_of
from gos_fx.ir.verifier import Bounds

ORIGINAL = """\
def f(x: map[N, C, H, W], *, w: weight[C], b: weight[C]) -> map[N, C, H, W]:
    v0 = hadamard(x, w)
    v1 = add(v0, b)
    return v1"""


@pytest.fixture(scope="module")
def original() -> Graph:
    return parse(ORIGINAL)


def refused(text: str, original: Graph) -> str:
    with pytest.raises(VerifyError) as caught:
        check_replacement(parse(text), original, Bounds(nodes=3, edges=3))
    return str(caught.value)


def test_what_reads_no_more_than_the_original(original: Graph) -> None:
    text = ORIGINAL.replace("b: weight[C]", "w1: weight[C] = ones(size=C)")
    graph = parse(text.replace("(v0, b)", "(v0, w1)"))
    assert check_replacement(graph, original, Bounds()) is graph


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ("b: -> d:; b) -> d)", "the original has no weight d (f, d)"),
        (
            "w: weight[C] -> w: weight[1, C, 1, 1]",
            "it is weight[1, C, 1, 1], the original's weight[C] (f, w)",
        ),
        (
            "w: weight[C] -> w1: weight[C] = depthwise(u); (x, w) -> (x, w1)",
            "depthwise(u) reads u, which the original lacks (f, w1)",
        ),
        ("x -> y", "its feature maps are not the original's (f)"),
        ("H -> D", "its feature maps are not the original's (f)"),
    ],
)
def test_what_the_sites_do_not_have(edits: str, reason: str, original: Graph) -> None:
    text = ORIGINAL
    for edit in edits.split("; "):
        text = text.replace(*edit.split(" -> "))
    assert refused(text, original) == reason


def resized(line: str, result: str) -> str:
    text = ORIGINAL.replace("return v1", f"v2 = {line}\n    return v2")
    return text.replace("-> map[N, C, H, W]", f"-> {result}")


def test_another_element_count(original: Graph) -> None:
    text = resized("resize(v1, size=(2 * H, W))", "map[N, C, 2 * H, W]")
    assert refused(text, original) == (
        "the output has 2 * C * H * N * W elements, the original's C * H * N * W (f). "
        "Insert a pad, slice, resize or matmul."
    )
    text = resized('max(v1, axis="wo")', "map[N, C, H]")
    assert "the output has C * H * N elements" in refused(text, original)


def test_what_a_resize_makes_fit(original: Graph) -> None:
    text = resized(
        "max_pool(v1, stride=(2, 2))", "map[N, C, ceildiv(H, 2), ceildiv(W, 2)]"
    )
    assert "elements, the original's" in refused(text, original)
    text = ORIGINAL.replace(
        "return v1",
        "v2 = max_pool(v1, stride=(2, 2))\n"
        "    v3 = resize(v2, size=(H, W))\n    return v3",
    )
    assert check_replacement(parse(text), original, Bounds())


def test_a_reshape_at_the_end_is_optional(original: Graph) -> None:
    flat = parse(resized("reshape(v1, shape=(N, C * H * W))", "map[N, C * H * W]"))
    check_result(flat, original)
    found = in_shape_of(flat, original)
    assert found.result == original.result
    assert found.nodes[-1].opcode == "reshape"
    assert in_shape_of(original, original) is original


def test_another_dtype_and_another_number_of_results(original: Graph) -> None:
    double = parse(ORIGINAL.replace("]", ", float64]"))
    with pytest.raises(
        VerifyError, match="the output is float64, the original's float32"
    ):
        check_result(double, original)
    both = parse(resized("bundle(v0, v1)", "(map[N, C, H, W], map[N, C, H, W])"))
    assert refused(resized("bundle(v0, v1)", str(both.result)), original) == (
        "2 results, the original has 1 (f)"
    )


def test_bounds_hold_too(original: Graph) -> None:
    text = ORIGINAL.replace(
        "return v1",
        "v2 = tanh(v1)\n    v3 = tanh(v2)\n    return v3",
    )
    assert refused(text, original) == "4 instructions, at most 3 (f)"


def test_weights_that_were_already_new(original: Graph) -> None:
    """What was found before is the original of the next round."""
    found = parse(
        ORIGINAL.replace("w: weight[C]", "w1: weight[C] = ones(size=C)").replace(
            "(x, w)", "(x, w1)"
        )
    )
    text = found.text.replace("ones(size=C)", "centre(u, height=1, width=1)")
    assert check_replacement(found, found, Bounds()) is found
    with pytest.raises(VerifyError, match="reads u, which the original lacks"):
        check_replacement(parse(text), found, Bounds())
    assert check_replacement(parse(text), parse(text), Bounds())
