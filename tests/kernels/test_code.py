"""What the generated code looks like: tiles and unrolls reach it, nothing spills."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

import gos_fx.instructions  # noqa: F401  (fills the instruction table)
from gos_fx.emulator.pipeline import block_cycles
from gos_fx.ir.fusion import partition
from gos_fx.ir.parser import parse
from gos_fx.kernels.host import HostModule, time_interleaved
from gos_fx.kernels.prim_func import build_kernel
from gos_fx.targets.target import get

SPEC = importlib.util.spec_from_file_location(
    "operator_texts", Path(__file__).parent / "operator_texts.py"
)
TEXTS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TEXTS)


def layer(*schedule: str) -> str:
    return TEXTS.convolution(channels=(64, 64), size=(56, 56), schedule=schedule)


def inner_loops(assembly: str) -> list[list[str]]:
    """Basic blocks that jump back to their own label: the innermost loops."""
    loops = []
    for match in re.finditer(r"^(\.L\w+):(.*?)(?=^\.L\w+:|\Z)", assembly, re.M | re.S):
        label, body = match[1], match[2]
        lines = [line.strip() for line in body.splitlines() if line.startswith("\t")]
        jumps = [i for i, x in enumerate(lines) if re.match(rf"b\.\w+\s+{label}$", x)]
        if jumps:
            loops.append(lines[: jumps[0] + 1])
    return loops


def assembly_of(text: str, name: str) -> str:
    """The only kernel of a graph, compiled in this process: much sooner."""
    import tvm

    graph, target = parse(text), get(name)
    (kernel,) = partition(graph)
    scheduled = build_kernel(kernel, graph.types, target.machine)
    machine = tvm.target.Target(dict(target.tvm))
    library = tvm.compile(scheduled.function, target=machine)
    return library.mod.inspect_source("asm")


def hottest(assembly: str) -> list[str]:
    """The innermost loop with the most multiply-adds."""
    return max(inner_loops(assembly), key=lambda x: sum("fmla" in y for y in x))


def test_different_tiles_give_different_code(listing):
    base = listing(layer("tile(co=8, ho=1, wo=8)"), "arm_a53")
    tiled = listing(layer("tile(co=4, ho=1, wo=14)"), "arm_a53")
    unrolled = listing(layer("tile(co=8, ho=1, wo=8)", "unroll(ci=2)"), "arm_a53")
    assert len({base.tir, tiled.tir, unrolled.tir}) == 3
    assert len({base.assembly, tiled.assembly, unrolled.assembly}) == 3
    counts = [
        sum("fmla" in line for line in hottest(result.assembly))
        for result in (base, tiled, unrolled)
    ]
    assert counts[0] != counts[1]
    assert counts[2] > counts[0]


def test_different_tiles_take_different_time(listing):
    texts = [layer("tile(co=16, ho=1, wo=8)"), layer("tile(co=1, ho=1, wo=1)")]
    modules = [HostModule(listing(text, "host").library, 1) for text in texts]
    x = torch.randn(1, 64, 56, 56)
    fast, slow = time_interleaved(modules, (x,), repeats=7)
    assert slow.median > 2 * fast.median


@pytest.mark.parametrize(
    "options",
    [
        {"channels": (64, 64), "size": (56, 56)},
        {"channels": (128, 128), "size": (14, 14)},
        {"channels": (64, 128), "size": (56, 56), "stride": (2, 2)},
        {
            "channels": (64, 128),
            "size": (28, 28),
            "kernel": (1, 1),
            "padding": (0, 0, 0, 0),
        },
    ],
    ids=["3x3", "3x3 small", "3x3 strided", "1x1"],
)
def test_no_spills_in_the_inner_loop_on_arm(options):
    body = hottest(assembly_of(TEXTS.convolution(**options), "arm_a53"))
    count = Counter(line.split()[0] for line in body)
    assert count["fmla"] >= 32
    assert not [x for x in body if re.search(r"\bq\d+.*\[sp", x)]
    by_lane = [x for x in body if re.search(r"fmla.*\.s\[\d\]", x)]
    assert len(by_lane) >= count["fmla"] // 2
    # Two insertions make a vector, in a cycle that has no multiply-add; nothing else
    # takes one.
    slack = 1.03 if count["fmla"] > 32 else 1.1  # too few to hide every load behind
    assert block_cycles(body) <= slack * (count["fmla"] + count["mov"] / 2)


def test_activations_call_no_library_function():
    text = """\
def activations(x: map[1, 8, 16, 16]) -> map[1, 8, 16, 16]:
    v0 = sigmoid(x)
    v1 = tanh(v0)
    v2 = exp(v1)
    return v2
"""
    assert "expf" not in assembly_of(text, "arm_a53")
