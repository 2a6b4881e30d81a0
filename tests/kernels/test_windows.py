"""Depth-wise convolution and pooling: which kernels, how they are cut, their code."""

from __future__ import annotations

import importlib.util
import random
import re
from itertools import product
from math import prod
from pathlib import Path

import pytest
import torch

import gos_fx.instructions  # noqa: F401  (fills the instruction table)
from gos_fx.ir.fusion import partition
from gos_fx.ir.parser import parse
from gos_fx.kernels.build import build_operator
from gos_fx.kernels.emulator import measure
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.layout import stored_shape
from gos_fx.kernels.microkernels.windows import WindowTile, window_kernel
from gos_fx.kernels.package import TensorSpec, save_package
from gos_fx.kernels.prim_func import build_kernel, plan
from gos_fx.kernels.window_axis import Axis
from gos_fx.kernels.window_tiles import window_plan
from gos_fx.targets.target import get


def load(name: str):
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TEXTS, CONVOLUTIONS = load("window_texts"), load("operator_texts")
RANDOM = {f"random {i}": TEXTS.random_window(i) for i in range(16)}
# A sum of a hundred products of numbers around one, in float32.
TOLERANCE = 1e-5


def rule_of(text: str) -> str:
    import gos_fx.kernels.schedules  # noqa: F401  (registers the rules)
    from gos_fx.kernels.schedule_rule import rule_for

    graph = parse(text)
    kernel = max(partition(graph), key=lambda k: k.anchor.opcode != "resize")
    return rule_for(kernel, graph.types).__name__


def test_windows_are_taken_and_dense_convolutions_are_not():
    assert {rule_of(text) for text in TEXTS.WINDOWS.values()} == {"window"}
    few = CONVOLUTIONS.convolution(channels=(8, 12), size=(9, 9), groups=4)
    assert rule_of(few) == "window"  # three outputs of a group
    for groups in (1, 2):
        dense = CONVOLUTIONS.convolution(channels=(8, 16), size=(9, 9), groups=groups)
        assert rule_of(dense) != "window"


def random_axis(rng: random.Random) -> Axis:
    while True:
        inputs, taps = rng.randint(1, 30), rng.randint(1, 7)
        stride, dilation = rng.randint(1, 3), rng.randint(1, 3)
        before, behind = rng.randint(-2, 5), rng.randint(-2, 5)
        span = dilation * (taps - 1) + 1
        outputs = (inputs + before + behind - span) // stride + 1
        if outputs > 0:
            block = rng.randint(1, 8)
            return Axis(inputs, outputs, taps, stride, dilation, before, block)


def test_tiles_read_what_lies_inside_once():
    rng = random.Random(0)
    for _ in range(200):
        axis = random_axis(rng)
        wanted = {
            (output, tap, output * axis.stride + tap * axis.dilation - axis.before)
            for output, tap in product(range(axis.outputs), range(axis.taps))
        }
        found = []
        for block in range(axis.blocks):
            reads = axis.reads(None if block in axis.whole else block)
            for at, readers in reads.items():
                for output, tap in readers:
                    place = axis.first(block) + at
                    found.append((block * axis.block + output, tap, place))
        inside = {x for x in wanted if 0 <= x[2] < axis.inputs}
        assert sorted(found) == sorted(inside)


@pytest.mark.parametrize("name", ["arm_a53", "snapdragon_845"])
def test_default_tiles_fit_the_registers(name):
    machine = get(name).machine
    for text in (*TEXTS.WINDOWS.values(), *RANDOM.values()):
        graph = parse(text)
        for kernel in partition(graph):
            if kernel.anchor.opcode == "resize" or kernel.tile:
                continue
            job = plan(kernel, graph.types, machine)
            made = window_plan(kernel, graph.types, job.tile, machine)
            weights = made.rows.taps * made.columns.taps if made.resident else 0
            vectors = max(1, made.width // 4)
            used = vectors * (made.rows.block * made.columns.block + weights)
            assert used <= machine.vector_registers


def differences(texts, expected, found) -> list[str]:
    wrong = []
    for (name, text), a, b in zip(texts.items(), expected, found, strict=True):
        scale = max(1.0, float(a.abs().max()))
        error = float((a - torch.as_tensor(b)).abs().max()) / scale
        if a.shape != b.shape or not error <= TOLERANCE:
            wrong.append(f"{name}: {error:.1e}\n{text}")
    return wrong


def test_host(operators, make_package, tmp_path):
    texts = {**TEXTS.WINDOWS, **RANDOM}
    module = operators(texts)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "host", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    for threads in (1, 2):
        found = HostModule.from_package(package, threads)(*inputs)
        assert not differences(texts, expected, found)


@pytest.mark.qemu
def test_arm_a53(qemu, operators, make_package, tmp_path):
    texts = {**TEXTS.WINDOWS, **dict(list(RANDOM.items())[:4])}
    module = operators(texts)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "arm_a53", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    found = emulate(package, [x.numpy() for x in inputs], threads=2)
    assert not differences(texts, expected, found)


def tile(
    rows: int,
    columns: int,
    taps: int,
    stride: int,
    *,
    pool: bool = False,
    columns_of: int = 56,
) -> WindowTile:
    """A tile of windows on an image of 32 channels."""
    readers: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for r, c, kh, kw in product(range(rows), range(columns), range(taps), range(taps)):
        at = (r * stride + kh, c * stride + kw)
        readers.setdefault(at, []).append((r * columns + c, kh * taps + kw))
    inputs = tuple(
        (4 * 32 * (columns_of * row + column), tuple(found))
        for (row, column), found in sorted(readers.items())
    )
    resident = not pool and rows * columns + taps * taps <= 26
    weights = 0 if pool else taps * taps
    return WindowTile(inputs, rows * columns, weights, resident)


@pytest.mark.parametrize(
    "made",
    [
        tile(4, 4, 3, 1),
        tile(5, 3, 3, 1),
        tile(4, 4, 3, 2),
        tile(2, 7, 5, 1),
        tile(2, 7, 5, 2),
        tile(4, 6, 3, 2, pool=True),
    ],
    ids=["3x3", "3x3 odd", "3x3 strided", "5x5", "5x5 strided", "pool"],
)
def test_a_microkernel_loads_each_input_once_and_hardly_waits(made):
    kernel = window_kernel(made)
    asm = kernel.llvm_ir
    streamed = made.weights if not made.resident else 0
    vectors = len(made.inputs) + streamed
    steps = sum(len(readers) for _, readers in made.inputs)
    assert len(re.findall(r"ldr\\09x\d+", asm)) == 2 * vectors
    work = re.findall(r"(?:fmla|fmul|fmax|mov)\\09v\d+\.(?:4s|16b)", asm)
    assert len(work) == steps
    # Two words go into registers in a cycle; nothing else is issued beside them.
    assert kernel.cycles <= 1.1 * (steps + vectors) + 12


def test_equal_names_mean_equal_code():
    """Rows that are apart by more than a load reaches have bases of their own, so that
    the lines of assembly do not say how far apart they are."""
    kernels = [window_kernel(tile(2, 2, 3, 1, columns_of=n)) for n in (400, 500)]
    assert len({kernel.name for kernel in kernels}) == 2


def test_a_tile_that_does_not_fit_has_no_microkernel():
    assert window_kernel(tile(6, 6, 3, 1)) is None


@pytest.mark.parametrize(
    "shape",
    [
        {"channels": 96, "size": (56, 56)},
        {"channels": 96, "size": (112, 112), "stride": (2, 2)},
        {"channels": 384, "size": (14, 14)},
        {"channels": 120, "size": (28, 28), "taps": (5, 5), "padding": (2, 2, 2, 2)},
    ],
    ids=["3x3", "3x3 strided", "3x3 small", "5x5"],
)
def test_no_spills_on_arm(shape):
    text = TEXTS.depthwise(**shape).replace("slope=0.1", "slope=0.0")
    assembly = assembly_of(text, "arm_a53")
    (loop,) = re.findall(
        r"^\S*__tvm_parallel_lambda\S*:(.*?)^\.Lfunc_end", assembly, re.M | re.S
    )
    assert loop.count("fmla") > 100
    assert not re.findall(r"\bq\d+.*\[sp", loop)


def assembly_of(text: str, name: str) -> str:
    """The windows of a graph, compiled in this process."""
    import tvm

    graph, target = parse(text), get(name)
    kernel = next(k for k in partition(graph) if k.anchor.opcode != "resize")
    function = build_kernel(kernel, graph.types, target.machine).function
    machine = tvm.target.Target(dict(target.tvm))
    return tvm.compile(function, target=machine).mod.inspect_source("asm")


@pytest.mark.qemu
@pytest.mark.parametrize("stride", [1, 2])
def test_near_the_roof_of_loads_on_arm(qemu, tmp_path, stride):
    """Cycles of an FMA for each tap inside, and of a 128-bit load for each input of a
    tile, which takes this core two."""
    shape = {"channels": (96, 96), "size": (28, 28), "groups": 96}
    graph = parse(CONVOLUTIONS.convolution(**shape, stride=(stride, stride)))
    target = get("arm_a53")
    made = build_operator(graph, target, tmp_path, 1)
    (kernel,) = partition(graph)
    ends = [graph.types[kernel.anchor.operands[0]], graph.types[kernel.output]]
    given, wanted = ([TensorSpec("x", stored_shape(of), "float32")] for of in ends)
    package = save_package(tmp_path, made.library, target, given, wanted, threads=1)
    (work,) = (w for w in measure(package) if "cross_correlation" in w.function)
    sizes = plan(kernel, graph.types, target.machine).tile
    cut = window_plan(kernel, graph.types, sizes, target.machine)
    taps = prod(
        sum(axis.count(b, k) for b in range(axis.blocks) for k in axis.written(b))
        for axis in (cut.rows, cut.columns)
    )
    loads = cut.rows.loaded * cut.columns.loaded
    assert cut.vectors * (taps + 2 * loads) >= 0.6 * (work.serial + work.parallel)


def test_tiles_reach_the_code():
    shape = {"channels": 32, "size": (14, 14)}
    tiles = ("co=4, ho=2, wo=2", "co=4, ho=1, wo=7", "co=8, ho=1, wo=4")
    texts = [TEXTS.depthwise(**shape, tile=tile) for tile in tiles]
    assert len({assembly_of(text, "snapdragon_845") for text in texts}) == 3
