"""What a kernel is known by, what it depends on, and which sizes it may take."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

import gos_fx.instructions  # noqa: F401  (fills the instruction table)
from gos_fx.ir.fusion import Kernel, partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.kernels import tiles
from gos_fx.kernels.layout import Layout, inside, plain
from gos_fx.kernels.tuning.alone import (
    for_model,
    kernel_graph,
    kernel_key,
    with_sizes,
)
from gos_fx.kernels.tuning.setting import Setting, sources_digest
from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.kernels.tuning.space import Space
from gos_fx.kernels.tuning.tuned import Tuned, tuned, using
from gos_fx.targets import get

A53 = get("arm_a53")


def text(
    channels: int = 16,
    epilogue: str = "relu(v2, slope=0.0)",
    schedule: str = "",
    stride: int = 1,
) -> str:
    size = (19 - 3) // stride + 1
    last = "v3"
    lines = [
        f"def conv(x: map[1, 16, 17, 17], w: weight[{channels}, 16, 3, 3], "
        f"b: weight[{channels}]) -> map[1, {channels}, {size}, {size}]:",
        f"    v0 = cross_correlation(x, w, stride=({stride}, {stride}), "
        "dilation=(1, 1), groups=1, padding=(1, 1, 1, 1))",
        '    v1 = sum(v0, axis="ci")',
        "    v2 = add(v1, b)",
        f"    v3 = {epilogue}",
    ]
    if schedule:
        lines.append(f"    v4 = {schedule.replace('(', '(v3, ')}")
        last = "v4"
    return "\n".join([*lines, f"    return {last}"])


def only(source: str) -> tuple[Kernel, Graph]:
    graph = parse(source)
    (kernel,) = partition(graph)
    return kernel, graph


def key(source: str) -> str:
    kernel, graph = only(source)
    return kernel_key(kernel, graph.types)


def space(source: str) -> Space:
    kernel, graph = only(source)
    found = Space.of(kernel_graph(kernel, graph.types), A53.machine)
    assert found is not None
    return found


def test_names_do_not_count() -> None:
    renamed = text().replace("(x", "(image").replace("v1", "total").replace("b:", "c:")
    renamed = renamed.replace("v1, b", "v1, c").replace("total, b", "total, c")
    renamed = renamed.replace("def conv", "def layer4_0")
    assert renamed != text() and key(renamed) == key(text())


def test_a_kernel_of_a_larger_graph_is_the_same() -> None:
    lines = text().splitlines()
    lines[0] = lines[0].replace("x: map", "y: map")
    lines.insert(1, "    x = exp(y)")
    lines[1:2] = ["    x = max_pool(y, kernel=(1, 1), stride=(1, 1))"]
    lines[1] = lines[1].replace("1, 1))", "1, 1), padding=(0, 0, 0, 0))")
    graph = parse("\n".join(lines))
    _, kernel = partition(graph)
    assert kernel_key(kernel, graph.types) == key(text())


@pytest.mark.parametrize(
    "other",
    [
        text(channels=17),
        text(stride=2),
        text(epilogue="relu(v2, slope=0.1)"),
        text(epilogue="tanh(v2)"),
        text(schedule="tile(co=8)"),
        text(schedule="unroll(ci=2)"),
    ],
    ids=["shape", "stride", "slope", "epilogue", "tile", "unroll"],
)
def test_what_counts(other: str) -> None:
    assert key(other) != key(text())


def test_targets_threads_and_versions_are_settings() -> None:
    machine = A53.machine
    setting = Setting.of(A53, 1)
    larger = replace(A53, machine=replace(machine, l2_bytes=2 * machine.l2_bytes))
    told = replace(A53, tvm={**A53.tvm, "mcpu": "cortex-a55"})
    for other in (larger, told, replace(A53, name="mine"), get("snapdragon_845")):
        assert Setting.of(other, 1).target != setting.target
    # what differs from one look at a machine to the next, and what is kept beside
    same = replace(A53, machine=replace(machine, clock_hz=1e9, cores=2), tvm=A53.tvm)
    assert Setting.of(same, 1) == setting
    assert Setting.of(A53, 4) == replace(setting, threads=4)


def test_the_version_is_what_sources_say(tmp_path: Path) -> None:
    path = tmp_path / "schedule.py"

    def digest(source: str) -> str:
        path.write_text(source)
        return sources_digest([path])

    first = digest('"""Doc."""\nx = 1\ndef f():\n    """Doc."""\n    return x + 1\n')
    assert digest("# why\nx = 1\n\ndef f():\n    return (x + 1)\n") == first
    assert digest("x = 1\ndef f():\n    return x + 2\n") != first


def test_sizes_become_the_only_schedule_nodes() -> None:
    kernel, graph = only(text(schedule="tile(co=8)"))
    alone = kernel_graph(kernel, graph.types)
    assert "tile(v3, co=8)" in alone.text
    changed = with_sizes(alone, Sizes.of({"co": 4, "ho": 2}, {"ci": 2}))
    (again,) = partition(changed)
    assert dict(again.tile) == {"co": 4, "ho": 2} and dict(again.unroll) == {"ci": 2}
    assert parse(changed.text) == changed


def test_the_model_reads_what_comes_before_unknown_instructions() -> None:
    kernel, graph = only(text(schedule="tile(co=8)"))
    alone = kernel_graph(kernel, graph.types)
    assert for_model(alone) == alone
    unknown = replace(alone.nodes[3], opcode="unheard_of")
    nodes = (*alone.nodes[:3], unknown, alone.nodes[4])
    bare = parse(for_model(replace(alone, nodes=nodes)).text)
    assert [node.opcode for node in bare.nodes] == ["cross_correlation", "sum", "tile"]
    assert len(bare.inputs) == 2


def test_candidates_are_legal_and_different() -> None:
    found = space(text(channels=40))
    assert found.default.tile == Sizes.of(dict(found.default.tile), {}).tile
    some = found.some(200, random.Random(0))
    near = found.near(found.default)
    assert len(set(some)) == len(some) > 50 and len(set(near)) == len(near) > 5
    assert found.default not in near
    loops = tiles.extents(found.kernel, found.types)
    for sizes in (*some, *near):
        assert set(dict(sizes.tile)) == set(dict(found.default.tile))
        assert all(1 <= size <= loops[loop] for loop, size in sizes.tile)
    assert found.some(200, random.Random(0)) == some
    assert found.some(200, random.Random(1)) != some
    assert all(steps(found, sizes, found.default) <= 2 for sizes in near)


def steps(found: Space, a: Sizes, b: Sizes) -> int:
    """Loops whose tile differs, each by one step of its choices."""
    first, second = dict(a.tile), dict(b.tile)
    moved = [loop for loop in first if first[loop] != second[loop]]
    for loop in moved:
        choices = found.tiles[loop]
        assert abs(choices.index(first[loop]) - choices.index(second[loop])) == 1
    return len(moved)


def test_own_sizes_are_in_every_candidate() -> None:
    found = space(text(schedule="tile(co=12)"))
    for sizes in (
        found.default,
        *found.some(100, random.Random(0)),
        *found.near(found.default),
    ):
        assert dict(sizes.tile)["co"] == 12


@pytest.mark.parametrize(
    "source",
    [
        "def f(x: map[1, 3, 8, 8]) -> map[1, 3, 8, 8]:\n    v0 = exp(x)\n    return v0",
        "def f(x: map[1, 3, 8, 8]) -> map[1, 3, 8, 8]:\n"
        '    v0 = softmax(x, axis="co")\n    return v0',
    ],
    ids=["elementwise", "softmax"],
)
def test_kernels_without_a_tile(source: str) -> None:
    kernel, graph = only(source)
    assert Space.of(kernel_graph(kernel, graph.types), A53.machine) is None


def test_the_code_generator_gets_tuned_sizes() -> None:
    kernel, graph = only(text())
    sizes = Sizes.of({"co": 4, "wo": 6}, {"ci": 2})
    found = Tuned({key(text()): sizes})
    assert tuned(kernel, graph.types) == kernel
    with using(found):
        changed = tuned(kernel, graph.types)
        other, its = only(text(channels=17))
        assert tuned(other, its.types) == other
    assert tuned(kernel, graph.types) == kernel
    assert dict(changed.tile) == {"co": 4, "wo": 6}
    assert dict(changed.unroll) == {"ci": 2}
    assert found.used == [key(text())]
    assert [g.digest for g in found.asked] == [key(text()), key(text(channels=17))]


def test_weights_are_not_tuned() -> None:
    graph = parse(
        "def f(x: map[4, 8], w: weight[6, 8]) -> map[4, 6]:\n"
        "    v0 = transpose(w, axes=(1, 0))\n    v1 = matmul(x, v0)\n    return v1"
    )
    found = Tuned({})
    with using(found):
        for kernel in partition(graph):
            tuned(kernel, graph.types)
    assert [g.nodes[0].opcode for g in found.asked] == ["matmul"]


def test_kernels_that_lie_otherwise_are_left_alone() -> None:
    """Attention reads in another order than a product that is measured alone."""
    source = (
        "def f(x: map[1, 4, 8, 16], y: map[1, 4, 16, 8]) -> map[1, 4, 8, 8]:\n"
        "    v0 = matmul(x, y)\n    return v0"
    )
    product, its = only(source)
    conv, others = only(text())
    sizes = Sizes.of({"co": 4}, {})
    found = Tuned({kernel_key(product, its.types): sizes, key(text()): sizes})
    with using(found):
        assert tuned(product, its.types, {"v0": inside(its.result)}) != product
        assert tuned(product, its.types, {"y": plain(4)}) == product
        assert tuned(product, its.types, {"v0": Layout((0, 2, 1, 3))}) == product
        # the network's own input
        assert tuned(conv, others.types, {"x": plain(4)}) != conv
        assert tuned(conv, others.types, {"x": Layout((0, 3, 2, 1))}) == conv
        assert tuned(conv, others.types, {"elsewhere": plain(4)}) != conv


def test_tiles_that_are_the_same_code_are_one() -> None:
    """A kernel of one: its pixels are one row."""
    source = (
        "def f(x: map[1, 8, 14, 14], w: weight[16, 8, 1, 1]) -> map[1, 16, 14, 14]:\n"
        "    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1, "
        'padding=(0, 0, 0, 0))\n    v1 = sum(v0, axis="ci")\n    return v1'
    )
    found = space(source)
    seen = [dict(sizes.tile) for sizes in found.some(100, random.Random(0))]
    pixels = [(tile["co"], tile["ho"] * tile["wo"]) for tile in seen]
    assert len(set(pixels)) == len(pixels) > 20
    assert any(count > 14 for _, count in pixels)
    own = space(source.replace("return v1", "v2 = tile(v1, ho=2)\n    return v2"))
    assert all(dict(sizes.tile)["ho"] == 2 for sizes in own.some(50, random.Random(0)))
