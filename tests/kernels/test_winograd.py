"""Winograd's convolutions: where they are taken, and what they compute."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import gos_fx.instructions  # noqa: F401  (fills the instruction table)
from gos_fx.ir.fusion import partition
from gos_fx.ir.parser import parse
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.prim_func import build_kernel
from gos_fx.kernels.tiles import lanes
from gos_fx.kernels.winograd_form import FORMS, TAPS
from gos_fx.kernels.winograd_tiles import WinogradPlan, winograd_plan
from gos_fx.targets.target import get

SPEC = importlib.util.spec_from_file_location(
    "operator_texts", Path(__file__).parent / "operator_texts.py"
)
TEXTS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TEXTS)
# Of the largest output, as in test_schedules.
TOLERANCE = 1e-5


def choice(name: str, threads: int, **options: object) -> WinogradPlan | None:
    """What is chosen for the only kernel of a graph."""
    graph = parse(TEXTS.convolution(**options))
    (kernel,) = partition(graph)
    machine = replace(get(name).machine, cores=threads)
    return winograd_plan(kernel, graph.types, machine)


@pytest.mark.parametrize("m", FORMS)
def test_transforms_are_exact(m):
    """The matrices, made of the transforms themselves, convolve without an error."""
    from gos_fx.kernels.schedules import winograd_transform as transform

    form = FORMS[m]
    assert form.outputs == m
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal(form.size)
    taps = rng.standard_normal(TAPS)
    times = transform._times
    transform._times = lambda scale, value: float(scale) * value
    try:
        at_points = transform.input_transform(form, list(inputs), lambda x: x)
        weights = np.array(form.taps) @ taps
        values = list(np.array(at_points) * weights)
        found = transform.output_transform(form, values, lambda x: x)
    finally:
        transform._times = times
    expected = [inputs[i : i + TAPS] @ taps for i in range(m)]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


RESNET18 = {64: 56, 128: 28, 256: 14, 512: 7}


@pytest.mark.parametrize(
    ("target", "threads", "forms"),
    [
        ("arm_a53", 1, (4, 4, 4, 2)),
        ("arm_a53", 4, (2, 4, 2)),
        ("host", 1, (4, 4, 2)),
        ("host", 2, (4, 4, 2)),
    ],
)
def test_resnet18(target, threads, forms):
    if target == "host":  # whatever machine this is
        machine = get("host").machine
        if (machine.simd_bits, machine.l2_bytes) != (512, 1 << 20):
            pytest.skip("another machine")
    found = [
        choice(target, threads, channels=(c, c), size=(size, size))
        for c, size in list(RESNET18.items())[: len(forms)]
    ]
    chosen = tuple(None if p is None else p.form.outputs for p in found)
    assert chosen == forms


def test_a_plan_uses_its_threads_and_its_cache():
    machine = get("arm_a53").machine
    for channels, size in list(RESNET18.items())[:3]:
        sizes = {"channels": (channels, channels), "size": (size, size)}
        found = choice("arm_a53", 4, **sizes)
        parts = found.chunks if found.by_chunks else found.groups
        if not found.by_chunks and found.groups == 1:
            parts = found.points
        assert parts >= 4
        held = 4 * found.points * found.chunk * found.inputs
        if found.by_chunks:
            assert 4 * held < machine.l2_bytes


@pytest.mark.parametrize(
    "options",
    [
        {"stride": (2, 2)},
        {"stride": (1, 2)},
        {"dilation": (2, 2), "padding": (2, 2, 2, 2)},
        {"groups": 2},
        {"kernel": (1, 1), "padding": (0, 0, 0, 0)},
        {"kernel": (5, 5), "padding": (2, 2, 2, 2)},
        {"kernel": (3, 1), "padding": (1, 1, 0, 0)},
        {"schedule": ("tile(co=8, wo=8)",)},
        {"channels": (3, 64)},  # the transforms cost more than they save
        {"size": (4, 4)},  # too little to do
    ],
    ids=str,
)
def test_the_direct_form_is_kept(options):
    options = {"channels": (64, 64), "size": (28, 28), **options}
    for target, threads in (("arm_a53", 1), ("arm_a53", 4), ("host", 2)):
        assert choice(target, threads, **options) is None


def test_unrolling_does_not_forbid_it():
    options = {"channels": (64, 64), "size": (28, 28), "schedule": ("unroll(ci=4)",)}
    assert choice("arm_a53", 1, **options) is not None


def test_the_large_form_only_where_it_is_accurate():
    found = choice("arm_a53", 1, channels=(1024, 64), size=(28, 28))
    assert found.form is FORMS[2]
    assert choice("arm_a53", 1, channels=(512, 64), size=(28, 28)).form is FORMS[4]


def compiled(text: str, chosen: WinogradPlan, monkeypatch: pytest.MonkeyPatch):
    """Function of the only kernel of a graph on this machine, made with this plan."""
    import tvm

    from gos_fx.kernels.schedule_rule import Packing
    from gos_fx.kernels.schedules import cross_correlation

    graph, target = parse(text), get("host")
    (kernel,) = partition(graph)
    monkeypatch.setattr(cross_correlation, "winograd_plan", lambda *_: chosen)
    scheduled = build_kernel(kernel, graph.types, target.machine)
    library = tvm.compile(scheduled.function, tvm.target.Target(dict(target.tvm)))

    def run(values: dict[str, torch.Tensor]) -> torch.Tensor:
        arguments = []
        for argument in scheduled.arguments:
            if isinstance(argument, Packing):
                pack = tvm.compile(argument.function, "llvm")
                made = tvm.runtime.tensor(np.empty(argument.shape, "float32"))
                given = [values[name].numpy() for name in argument.inputs]
                pack["main"](*map(tvm.runtime.tensor, given), made)
            else:
                value = values[argument]
                if value.dim() == 4:
                    value = value.permute(0, 2, 3, 1).contiguous()
                made = tvm.runtime.tensor(value.numpy())
            arguments.append(made)
        n, co, ho, wo = (int(size) for size in graph.result.shape)
        out = tvm.runtime.tensor(np.full((n, ho, wo, co), np.nan, "float32"))
        library["main"](*arguments, out)
        return torch.from_numpy(out.numpy()).permute(0, 3, 1, 2)

    return graph, run


def reference(graph, values) -> torch.Tensor:
    padding = next(node for node in graph.nodes).attrs["padding"]
    top, bottom, left, right = padding
    x = functional.pad(values["x"].double(), (left, right, top, bottom))
    y = functional.conv2d(x, values["w"].double(), values["b"].double())
    return functional.leaky_relu(y, 0.1)


# Channels, size, images and padding, and how the loops are cut: tiles of a chunk, by
# chunks, channels of a block, of a group, and the register block.
PLANS = [
    (2, (16, 16), (8, 8), 1, 1, (4, 1, 16, 16, 4, 16)),
    (2, (5, 7), (9, 11), 2, 1, (7, 1, 16, 16, 3, 16)),
    (2, (130, 33), (6, 5), 1, 0, (4, 1, 32, 16, 2, 16)),
    (2, (64, 48), (7, 7), 1, 1, (16, 0, 48, 48, 5, 48)),
    (2, (24, 40), (1, 13), 3, 1, (5, 0, 48, 16, 5, 16)),
    (4, (16, 32), (8, 8), 1, 1, (4, 1, 32, 32, 4, 32)),
    (4, (4, 130), (13, 10), 1, 2, (5, 1, 144, 48, 5, 16)),
    (4, (31, 13), (3, 17), 2, 1, (6, 0, 16, 16, 4, 16)),
    (4, (20, 64), (14, 14), 1, 1, (7, 0, 64, 32, 7, 16)),
    (4, (48, 64), (1, 1), 1, 1, (1, 0, 64, 64, 1, 32)),
    (4, (7, 96), (5, 60), 1, 0, (8, 1, 48, 48, 7, 16)),
]


@pytest.mark.parametrize("case", PLANS, ids=str)
def test_every_way_to_cut_the_loops(case, monkeypatch):
    m, channels, size, images, around, cut = case
    if lanes(get("host").machine) > 16:
        pytest.skip("wider vectors than the plans are for")
    text = TEXTS.convolution(
        n=images, channels=channels, size=size, padding=(around,) * 4
    )
    chunk, by_chunks, block, group, pixels, co = cut
    rows, columns = (s + 2 * around - 2 for s in size)
    chosen = WinogradPlan(
        FORMS[m],
        images,
        rows,
        columns,
        *channels,
        (around, around),
        chunk,
        bool(by_chunks),
        block,
        group,
        pixels,
        co,
    )
    graph, run = compiled(text, chosen, monkeypatch)
    generator = torch.Generator().manual_seed(0)
    values = {
        value.name: torch.randn([int(d) for d in value.type.shape], generator=generator)
        for value in graph.inputs
    }
    expected = reference(graph, values)
    found = run(values)
    error = float((found - expected).abs().max() / expected.abs().max())
    assert error <= TOLERANCE


def inside(
    *, n: int = 1, channels: tuple[int, int], size: tuple[int, int], padding: int = 1
) -> str:
    """A convolution within a network, where channels lie side by side; a value that it
    does not read is added behind it."""
    ci, co = channels
    rows, columns = (s + 2 * padding - 2 for s in size)
    one = "kernel=(1, 1), stride=(1, 1), padding=(0, 0, 0, 0)"
    out = f"map[{n}, {co}, {rows}, {columns}]"
    return f"""\
def inside(x: map[{n}, {ci}, {size[0]}, {size[1]}], y: {out}, \
w: weight[{co}, {ci}, 3, 3], b: weight[{co}]) -> {out}:
    v0 = max_pool(x, {one})
    v1 = max_pool(y, {one})
    v2 = cross_correlation(v0, w, stride=(1, 1), dilation=(1, 1), groups=1, \
padding=({padding}, {padding}, {padding}, {padding}))
    v3 = mean(v2, axis="ci")
    v4 = add(v3, b)
    v5 = add(v4, v1)
    v6 = relu(v5, slope=0.0)
    v7 = max_pool(v6, {one})
    return v7
"""


NETWORK = {
    "rows and columns of tiles": inside(channels=(32, 48), size=(16, 20)),
    "no multiples of a tile": inside(channels=(40, 56), size=(15, 13), padding=0),
    "channels no multiple of a vector": inside(channels=(44, 132), size=(13, 13)),
    "two rows": inside(channels=(64, 64), size=(2, 61)),
    "images": inside(n=3, channels=(24, 64), size=(9, 9), padding=2),
    "large": inside(channels=(128, 128), size=(14, 14)),
}


def differences(expected, found) -> list[str]:
    wrong = []
    for name, a, b in zip(NETWORK, expected, found, strict=True):
        scale = max(1.0, float(a.abs().max()))
        error = float((a - torch.as_tensor(b)).abs().max()) / scale
        if not error <= TOLERANCE:
            wrong.append(f"{name}: {error:.1e}")
    return wrong


def chosen_in_network(target: str) -> list[str]:
    """The convolutions for which Winograd's form is chosen."""
    found = []
    for name, text in NETWORK.items():
        graph = parse(text)
        machine = get(target).machine
        for kernel in partition(graph):
            if kernel.is_summed and winograd_plan(kernel, graph.types, machine):
                found.append(name)
    return found


def test_in_a_network(operators, make_package, tmp_path):
    assert len(chosen_in_network("host")) >= len(NETWORK) - 1
    module = operators(NETWORK)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "host", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    for threads in (1, 2):
        found = HostModule.from_package(package, threads)(*inputs)
        assert not differences(expected, found)


@pytest.mark.qemu
def test_in_a_network_on_arm(qemu, operators, make_package, tmp_path):
    assert len(chosen_in_network("arm_a53")) >= len(NETWORK) - 1
    module = operators(NETWORK)
    inputs = module.example_inputs()
    package = make_package(module, inputs, "arm_a53", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    found = emulate(package, [x.numpy() for x in inputs], threads=2)
    assert not differences(expected, found)


def test_the_points_are_exact_in_binary():
    """So are the factors of the transforms, then."""
    for form in FORMS.values():
        for point in form.pairs:
            assert Fraction(float(point)) == point
            for value in (*form.whole, *form.without(0)):
                assert Fraction(np.float32(float(value)).item()) == value
