"""Dense convolution and matrix product: plans, code, and numbers over odd shapes."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gos_fx.instructions
import gos_fx.kernels.schedules  # noqa: F401  (registers the rules)
from gos_fx.ir.fusion import partition
from gos_fx.ir.parser import parse
from gos_fx.kernels.default_tiles import default_tile
from gos_fx.kernels.dense_tiles import (
    DensePlan,
    DenseSizes,
    block_cycles,
    default_block,
    dense_plan,
    dense_sizes,
    has_microkernel,
    largest_block,
    traffic,
)
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.prim_func import build_kernel
from gos_fx.kernels.schedule_rule import rule_for
from gos_fx.targets.target import get

SPEC = importlib.util.spec_from_file_location(
    "operator_texts", Path(__file__).parent / "operator_texts.py"
)
TEXTS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TEXTS)
A53 = get("arm_a53").machine
NAMES = ("host", "arm_a53", "snapdragon_845")


def only_kernel(text: str):
    graph = parse(text)
    (kernel,) = partition(graph)
    return kernel, graph.types


def scheduled(text: str, name: str) -> str:
    kernel, types = only_kernel(text)
    return build_kernel(kernel, types, get(name).machine).function.script()


def product(rows: int, inputs: int, outputs: int, *, batch: str = "") -> str:
    return (
        f"def product(x: map[{batch}{rows}, {inputs}], w: weight[{inputs}, {outputs}], "
        f"b: weight[{outputs}]) -> map[{batch}{rows}, {outputs}]:\n"
        "    v0 = matmul(x, w)\n    v1 = add(v0, b)\n    v2 = relu(v1, slope=0.0)\n"
        "    return v2\n"
    )


def between(rows: int, inputs: int, columns: int, batch: int) -> str:
    """Two maps, as in attention."""
    return (
        f"def between(x: map[{batch}, {rows}, {inputs}], "
        f"y: map[{batch}, {inputs}, {columns}]) -> map[{batch}, {rows}, {columns}]:\n"
        "    v0 = matmul(x, y)\n    return v0\n"
    )


STRIDED = TEXTS.convolution(channels=(64, 128), size=(56, 56), stride=(2, 2))
FLAT = TEXTS.convolution(
    channels=(96, 24), size=(14, 14), kernel=(1, 1), padding=(0, 0, 0, 0)
)


def test_the_register_block_is_the_tile_and_bias_and_activation_are_in_it():
    code = scheduled(
        TEXTS.convolution(
            channels=(64, 64), size=(56, 56), schedule=("tile(co=32, ho=1, wo=7)",)
        ),
        "host",
    )
    assert re.search(r"packed: T.Buffer\(\(2, 3, 3, 64, 32\)", code)
    assert re.search(r"acc = T.sblock_alloc_buffer\(\(1, 56, 8, 2, 1, 7, 32\)", code)
    larger = r"T\.tirx\.gos_fx_larger\("  # a maximum that keeps what is no number
    assert re.search(rf"out\[.*\] = {larger}\(acc\[.* \+ b\[.*, acc\[", code)


def test_a_kernel_of_one_takes_the_image_as_one_row():
    code = scheduled(FLAT, "host")
    assert "decl_buffer((1, 1, 196, 96), data=x.data)" in code
    assert "pad" not in code


def test_in_order_cores_get_a_microkernel_and_others_do_not():
    assert "gos_tile_" in scheduled(STRIDED, "arm_a53")
    assert "gos_tile_" not in scheduled(STRIDED, "snapdragon_845")
    assert "gos_tile_" not in scheduled(STRIDED, "host")


@pytest.mark.parametrize(
    ("channels", "groups", "rule"),
    [
        ((64, 64), 1, "dense_convolution"),
        ((64, 64), 16, "dense_convolution"),
        ((64, 64), 32, "window"),  # two outputs in a group fill no vector
        ((64, 64), 64, "window"),
    ],
)
def test_groups_with_few_outputs_are_not_dense(channels, groups, rule):
    text = TEXTS.convolution(channels=channels, size=(9, 9), groups=groups)
    assert rule_for(*only_kernel(text)).__name__ == rule


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.builds(
        DenseSizes,
        batch=st.integers(1, 3),
        rows=st.integers(1, 60),
        columns=st.integers(1, 60),
        outputs=st.integers(1, 600),
        inputs=st.integers(1, 600),
        taps=st.sampled_from([(1, 1), (3, 3), (1, 7), (5, 5)]),
        input_bytes=st.integers(4, 1 << 22),
        is_flat=st.just(False),
    ),
    name=st.sampled_from(NAMES),
    cores=st.integers(1, 4),
)
def test_plans_cover_the_output_and_fit_the_registers(sizes, name, cores):
    machine = replace(get(name).machine, cores=cores)
    block = default_block(sizes, {}, machine)
    plan = dense_plan(sizes, block, machine)
    vectors = -(-plan.co // machine.lanes)
    assert plan.ho * plan.wo <= largest_block(vectors, machine)
    assert plan.row_blocks * plan.ho >= sizes.rows > (plan.row_blocks - 1) * plan.ho
    assert plan.column_blocks * plan.wo >= sizes.columns
    assert plan.outer_blocks % plan.chunk == 0
    assert not (plan.by_channels and cores == 1)
    # What was chosen is chosen again if it is given.
    assert default_block(sizes, block, machine) == block
    assert dense_plan(sizes, block, machine) == plan


def test_fewer_cycles_than_one_pixel_after_the_other():
    sizes = dense_sizes(*only_kernel(STRIDED))
    block = default_block(sizes, {}, A53)
    single = {"ho": 1, "wo": 1, "co": 4}
    assert block_cycles(sizes, block, A53) < block_cycles(sizes, single, A53) / 1.5


def test_traffic_of_what_stays_and_of_what_passes_again():
    """Independent sums: 28 x 28 x 128 pixels and 590 KB of weights, 512 KB of L2."""
    sizes = DenseSizes(1, 28, 28, 128, 128, (3, 3), input_bytes=401_408, is_flat=False)
    alone = replace(A53, cores=1)
    weights, image, output = 4 * 128 * 128 * 9, 401_408, 401_408
    plan = DensePlan(1, 7, 8, 28, 28, 128, chunk=4, by_channels=False)
    # Seven chunks stay, each with its copy; the weights pass seven times.
    assert traffic(sizes, plan, alone) == image + 2 * output + 7 * weights
    whole = replace(plan, chunk=28)
    # The image does not stay beside its result: 16 blocks of channels read it again,
    # and write half of a line each.
    assert traffic(sizes, whole, alone) == 16 * image + 4 * output + weights


def test_a_tile_of_the_graph_is_kept():
    text = TEXTS.convolution(
        channels=(64, 64), size=(56, 56), schedule=("tile(co=12, wo=5)",)
    )
    kernel, types = only_kernel(text)
    for name in NAMES:
        tile = default_tile(kernel, types, get(name).machine)
        assert (tile["co"], tile["wo"]) == (12, 5)


def test_microkernels_want_whole_vectors_that_fit_the_registers():
    plan = DensePlan(1, 8, 8, 8, 8, 8, chunk=1, by_channels=False)
    assert has_microkernel(plan, A53)
    assert not has_microkernel(replace(plan, co=6), A53)
    assert not has_microkernel(replace(plan, wo=11), A53)
    assert not has_microkernel(plan, get("snapdragon_845").machine)


ODD = {
    f"{o}": TEXTS.convolution(**o)
    for o in (
        {"channels": (1, 5), "size": (1, 1), "kernel": (1, 1), "padding": (0,) * 4},
        {"n": 3, "channels": (3, 7), "size": (1, 9)},
        {"n": 2, "channels": (13, 17), "size": (11, 7), "stride": (2, 1)},
        {"channels": (5, 31), "size": (13, 13), "kernel": (5, 3), "dilation": (1, 2)},
        {"channels": (2, 4), "size": (6, 6), "kernel": (2, 2), "padding": (1, 0, 0, 1)},
        {"n": 2, "channels": (3, 33), "size": (23, 23), "kernel": (7, 7)},
        {"channels": (12, 20), "size": (7, 5), "groups": 4},
        {"n": 3, "channels": (97, 24), "size": (7, 7), "kernel": (1, 1)}
        | {"padding": (0, 0, 0, 0)},
        {"channels": (67, 37), "size": (8, 8), "kernel": (1, 1), "stride": (3, 3)}
        | {"padding": (0, 0, 0, 0)},
    )
}
ODD |= {
    "one row": product(1, 67, 101),
    "few steps": product(5, 2, 9),
    "rows": product(37, 131, 10),
    "batch": product(7, 64, 40, batch="3, "),
    "two maps": between(19, 37, 23, 3),
    "small maps": between(5, 5, 5, 4),
    "ten outputs": product(1, 64, 10),
    "one block, not full": product(9, 12, 6),
}


def differences(texts, expected, found) -> list[str]:
    wrong = []
    for name, a, b in zip(texts, expected, found, strict=True):
        error = float((a - torch.as_tensor(b)).abs().max())
        if a.shape != b.shape or not error <= 1e-5 * max(1.0, float(a.abs().max())):
            wrong.append(f"{name}: {error:.1e}")
    return wrong


def test_odd_shapes_here(operators, make_package, tmp_path):
    module = operators(ODD)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "host", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    for threads in (1, 2):
        found = HostModule.from_package(package, threads)(*inputs)
        assert not differences(ODD, expected, found)


@pytest.mark.qemu
def test_odd_shapes_as_arm_code(qemu, operators, make_package, tmp_path):
    module = operators(ODD)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "arm_a53", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    found = emulate(package, [x.numpy() for x in inputs], threads=2)
    assert not differences(ODD, expected, found)


def loops_with(assembly: str, fused: str) -> list[str]:
    """Innermost loops, as text, that contain multiply-adds."""
    found = []
    for match in re.finditer(r"^(\.L\w+):(.*?)(?=^\.L\w+:|\Z)", assembly, re.M | re.S):
        label, body = match[1], match[2]
        jump = re.search(rf"^\s+(?:b\.|j)\w+\s+{re.escape(label)}\s*$", body, re.M)
        if jump and fused in body[: jump.end()]:
            found.append(body[: jump.end()])
    return found


@pytest.mark.parametrize("text", [STRIDED, FLAT], ids=["strided", "flat"])
def test_no_spills_in_inner_loops(text, listing):
    here = loops_with(listing(text, "host").assembly, "vfmadd")
    assert here
    assert not [body for body in here if re.search(r"\(%r[sb]p", body)]
    for name in ("arm_a53", "snapdragon_845"):
        there = loops_with(listing(text, name).assembly, "fmla")
        assert there
        assert not [body for body in there if "[sp" in body]
