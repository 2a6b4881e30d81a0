"""The analytical source: exact on a case computed by hand, sane in what it prefers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx.errors import BadOption
from gos_fx.ir.fusion import partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.kernels.dense_tiles import dense_sizes
from gos_fx.kernels.schedules import pointwise, register_block, stage
from gos_fx.kernels.schedules import window as window_rule
from gos_fx.latency import dense, lines, stream, window
from gos_fx.latency.analytical import graph_latency, kernel_latency, traffic_latency
from gos_fx.latency.constants import FITTED, Constants
from gos_fx.latency.planning import DenseForm, Planned, planned
from gos_fx.latency.roofline import Cost, cost_of_kernel, fit_of, work_of_kernel
from gos_fx.latency.work import Loop, Sweep
from gos_fx.targets import Target, get, names

A53 = get("arm_a53")
TARGETS = [get(name) for name in names()]


def conv(
    inputs: int,
    outputs: int,
    size: int,
    k: int = 3,
    groups: int = 1,
    stride: int = 1,
    schedule: str = "",
) -> Graph:
    """Padded convolution and ReLU at a site; ``schedule`` is e.g. ``tile: co=8``."""
    p = k // 2
    out = (size + 2 * p - k) // stride + 1
    lines = [
        f"def f(x: map[1, {inputs}, {size}, {size}], "
        f"w: weight[{outputs}, {inputs // groups}, {k}, {k}]) "
        f"-> map[1, {outputs}, {out}, {out}]:",
        f"    v0 = cross_correlation(x, w, stride=({stride}, {stride}), "
        f"dilation=(1, 1), groups={groups}, padding=({p}, {p}, {p}, {p}))",
        '    v1 = sum(v0, axis="ci")',
        "    v2 = relu(v1, slope=0.0)",
    ]
    last = 2
    for part in filter(None, schedule.split(";")):
        opcode, sizes = part.split(":")
        lines.append(f"    v{last + 1} = {opcode.strip()}(v{last}, {sizes})")
        last += 1
    return parse("\n".join([*lines, f"    return v{last}\n"]))


def seconds(graph: Graph, target: Target = A53, threads: int | None = 1) -> float:
    return graph_latency(graph, target, threads).seconds


def plan(graph: Graph, target: Target = A53, cores: int = 1) -> Planned:
    (kernel,) = partition(graph)
    return planned(kernel, graph.types, replace(target.machine, cores=cores))


def form(graph: Graph, target: Target = A53, cores: int = 1) -> DenseForm:
    found = plan(graph, target, cores)
    assert isinstance(found, DenseForm)
    return found


# Of a case computed by hand: every constant that it needs is a round number.
PLAIN = Constants(
    call_block=5.0,
    block=10.0,
    copy_pixel=1.0,
    copy_turn=2.0,
    copy_vector=3.0,
    store=4.0,
    simple=1.0,
    call=100.0,
    kernel_lines=0.0,
)


def test_a_case_computed_by_hand() -> None:
    """1x1 convolution 2 -> 4 of 1x2, tile of 4 channels by 2 columns, one thread.

    One microkernel of two steps that are rounded up to four: 8 FMAs on two accumulators
    that are each added to every fourth cycle, 16 cycles; 5 to call it and 10 around it.
    It reads behind the last pixel, so that 3 pixels of one turn and vector are copied,
    in 6 cycles each. Of the two vectors of results each takes 1 for relu and 4 to
    store. The map was in the cache; 32 bytes of weights, 32 of results and 24 of the
    copy were not.
    """
    graph = parse(
        "def f(x: map[1, 2, 1, 2], w: weight[4, 2, 1, 1]) -> map[1, 4, 1, 2]:\n"
        "    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1, "
        "padding=(0, 0, 0, 0))\n"
        '    v1 = sum(v0, axis="ci")\n'
        "    v2 = relu(v1, slope=0.0)\n"
        "    v3 = tile(v2, co=4, ho=1, wo=2)\n"
        "    return v3\n"
    )
    (kernel,) = partition(graph)
    cost = cost_of_kernel(kernel, graph.types, A53, 1, PLAIN)
    assert cost.serial == pytest.approx(16 + 5 + 10 + 3 * 6 + 2 * 5 + 100)
    assert not cost.loops and cost.lines == pytest.approx(88 / 64)
    fit = fit_of(A53, 1)
    seconds = fit.issue * cost.serial / A53.machine.clock_hz + fit.line_s * cost.lines
    assert cost.seconds(A53, 1) == pytest.approx(seconds)


def test_the_estimate_says_how_wrong_it_may_be() -> None:
    estimate = graph_latency(conv(64, 64, 28), A53, 1)
    assert (estimate.source, estimate.target) == ("analytical", "arm_a53")
    board = fit_of(A53, 1).error
    expected = (board**2 + FITTED.error**2) ** 0.5
    assert estimate.error == pytest.approx(expected * estimate.seconds)
    assert estimate.spread == pytest.approx(FITTED.noise * estimate.seconds)
    host = graph_latency(conv(64, 64, 28), get("host"), 1)
    assert host.error >= 0.5 * host.seconds


def test_its_seconds_follow_the_constants_of_the_board() -> None:
    cost = Cost(1e6, (Loop(4e6, 8),), 1e5)
    one, four = fit_of(A53, 1), fit_of(A53, 4)
    clock = A53.machine.clock_hz
    assert cost.seconds(A53, 4) == pytest.approx(
        (one.issue * 1e6 + four.issue * 1e6) / clock + four.line_s * 1e5
    )
    assert cost.parallel(3) == pytest.approx(4e6 * 3 / 8)  # three rounds of eight parts


@pytest.mark.parametrize("name", names())
def test_never_faster_than_the_peak(name: str) -> None:
    target = get(name)
    for graph in (conv(64, 64, 28), conv(64, 64, 28, groups=64), conv(256, 256, 7)):
        (kernel,) = partition(graph)
        work = dense_sizes(kernel, graph.types).work
        # Winograd's form of 4x4 outputs needs a quarter of the multiply-adds.
        peak = 2 * work / target.machine.peak_flops / 4
        assert seconds(graph, target, None) > peak


def test_a_large_convolution_is_near_the_peak() -> None:
    for name in names():
        machine = get(name).machine
        peak = 2 * 64 * 64 * 56 * 56 / (machine.peak_flops / machine.cores)
        peak *= fit_of(get(name), 1).issue  # cycles of the core, not of the issue model
        assert peak < seconds(conv(64, 64, 56, k=1), get(name)) < 2.2 * peak


@settings(max_examples=30, deadline=None)
@given(
    inputs=st.integers(1, 16),
    outputs=st.integers(1, 16),
    rows=st.integers(1, 6),
    more=st.integers(1, 8),
)
def test_more_work_is_never_faster(
    inputs: int, outputs: int, rows: int, more: int
) -> None:
    # Whole tiles and vectors: a larger map may well beat a smaller one with tails.
    schedule, size = "tile: n=1, co=8, ho=1, wo=4; unroll: kw=3", 4 * rows
    base = seconds(conv(8 * inputs, 8 * outputs, size, schedule=schedule))
    wider = conv(8 * inputs, 8 * (outputs + more), size, schedule=schedule)
    deeper = conv(8 * (inputs + more), 8 * outputs, size, schedule=schedule)
    larger = conv(8 * inputs, 8 * outputs, size + 4 * more, schedule=schedule)
    assert min(map(seconds, (wider, deeper, larger))) >= base


def test_a_spilling_tile_is_slower() -> None:
    fits = seconds(conv(64, 64, 56, schedule="tile: co=8, ho=1, wo=8"))
    for spills in ("co=16, ho=1, wo=14", "co=8, ho=4, wo=8", "co=64, ho=1, wo=8"):
        assert seconds(conv(64, 64, 56, schedule=f"tile: {spills}")) > 1.5 * fits


def test_a_tile_that_leaves_tails_is_slower() -> None:
    whole = seconds(conv(64, 64, 28, schedule="tile: co=8, ho=1, wo=7"))
    tails = seconds(conv(64, 64, 28, schedule="tile: co=8, ho=1, wo=6"))
    lanes = seconds(conv(64, 64, 28, schedule="tile: co=6, ho=1, wo=7"))
    assert tails > whole and lanes > whole


def test_few_accumulators_wait_for_each_other() -> None:
    one = seconds(conv(64, 64, 28, schedule="tile: co=4, ho=1, wo=1"))
    assert one > 2.5 * seconds(conv(64, 64, 28))


def test_it_knows_what_the_code_generator_does() -> None:
    assert dense.PARALLEL_WORK == register_block.PARALLEL_WORK
    assert window.PARALLEL_WORK == window_rule.PARALLEL_WORK
    assert stream.PARALLEL_WORK == stage.PARALLEL_WORK == pointwise.PARALLEL_WORK
    assert stream.VECTORS == pointwise.VECTORS
    assert stream.MAX_VECTOR == stage.MAX_VECTOR


def test_threads_take_chunks_or_channels() -> None:
    (kernel,) = partition(small := conv(4, 4, 8))
    work = work_of_kernel(kernel, small.types, A53.machine, FITTED)
    assert [loop.parts for loop in work.loops] == [1]
    wide = conv(64, 64, 56, schedule="tile: co=8, ho=1, wo=8")
    single = conv(512, 512, 1, k=1, schedule="tile: co=8, ho=1, wo=1")
    chunks, channels = form(wide, cores=4), form(single, cores=4)
    assert chunks.parts >= chunks.chunks >= 4
    assert channels.plan.by_channels and channels.parts == channels.channel_blocks == 64


def test_padding_is_a_copy_of_its_own() -> None:
    whole = form(conv(8, 8, 16, k=1, schedule="tile: co=8, ho=1, wo=8"))
    (tails,) = form(conv(8, 8, 16, k=1, schedule="tile: co=8, ho=1, wo=7")).copies
    assert whole.copies == ()
    assert tails.inside and tails.elements == 8 * 37 * 7
    padded = form(conv(8, 8, 16, k=3, schedule="tile: co=8, ho=1, wo=8"))
    (copy,) = padded.copies
    rows = padded.plan.chunk * padded.plan.ho + 2  # of a chunk, with those around it
    assert (copy.count, copy.pixels, copy.channels) == (padded.chunks, rows * 18, 8)


def test_windows_of_single_channels_are_not_copied() -> None:
    graph = conv(64, 64, 28, groups=64)
    (kernel,) = partition(graph)
    (loop,) = work_of_kernel(kernel, graph.types, A53.machine, FITTED).loops
    assert 64 / 4 * 28 * 28 * 9 < loop.cycles < 3 * 64 / 4 * 28 * 28 * 9


@pytest.mark.parametrize("name", names())
def test_threads_help_but_not_for_nothing(name: str) -> None:
    target, graph = get(name), conv(64, 64, 28)
    cores = target.machine.cores
    each = [seconds(graph, target, n) for n in range(1, cores + 1)]
    if cores > 1:
        # The constants of a board may be better for many threads than for one.
        better = min(1.0, fit_of(target, cores).issue / fit_of(target, 1).issue)
        assert better * each[0] / cores < each[-1] < each[0]
    assert seconds(graph, target, cores + 7) == each[-1] == seconds(graph, target, None)


def test_a_matrix_times_a_vector_is_bound_by_memory() -> None:
    graph = parse(
        "def f(x: map[1, 2048], w: weight[2048, 1000]) -> map[1, 1000]:\n"
        "    v0 = matmul(x, w)\n"
        "    return v0\n"
    )
    at_least = 4 * 2048 * 1000 / A53.machine.dram_bytes_per_s_all
    assert at_least < seconds(graph, A53, 4) < 2 * at_least


def test_depthwise_costs_less_than_dense_but_more_per_multiplication() -> None:
    dense, depthwise = seconds(conv(64, 64, 28)), seconds(conv(64, 64, 28, groups=64))
    assert depthwise < dense < 64 * depthwise
    grouped = seconds(conv(64, 64, 28, groups=4))
    assert depthwise < grouped


def test_what_does_not_stay_in_the_cache_comes_again() -> None:
    graph = conv(64, 64, 56, schedule="tile: co=8, ho=1, wo=8")
    (kernel,) = partition(graph)

    def again(l2_bytes: int) -> float:
        machine = replace(A53.machine, l2_bytes=l2_bytes, cores=1)
        return work_of_kernel(kernel, graph.types, machine, FITTED).again

    assert again(1 << 30) == 0.0
    weights = 4 * 64 * 64 * 9 / 64
    assert again(8 << 10) > 10 * weights
    assert again(256 << 10) <= again(8 << 10)


def test_what_was_just_written_is_not_fetched_where_it_fits() -> None:
    small = [[Sweep("x", 1000, True)], [Sweep("x", 1000)]]
    assert lines.lines_of(small, A53.machine, FITTED) == 0.0
    large = [[Sweep("x", 1e6, True)], [Sweep("x", 1e6)]]
    capacity = A53.machine.l2_bytes / A53.machine.line_bytes
    found = lines.lines_of(large, A53.machine, FITTED)
    assert found == pytest.approx(1e6 + capacity)  # and what is dirty goes back


def test_rows_end_in_smaller_vectors() -> None:
    text = (
        "def f(x: map[{0}], b: weight[{1}]) -> map[{0}]:\n"
        "    v0 = add(x, b)\n    return v0\n"
    )
    whole, rest = (
        seconds(parse(text.format(f"1, {channels}, 28, 28", channels))) / channels
        for channels in (32, 31)
    )
    assert rest > whole


def test_what_depends_on_weights_alone_takes_no_time() -> None:
    graph = parse(
        "def f(x: map[4, 32], w: weight[16, 32]) -> map[4, 16]:\n"
        "    v0 = transpose(w, axes=(1, 0))\n"
        "    v1 = matmul(x, v0)\n"
        "    return v1\n"
    )
    folded, matmul = partition(graph)
    assert kernel_latency(folded, graph, A53, 1).seconds == 0.0
    assert graph_latency(graph, A53, 1) == kernel_latency(matmul, graph, A53, 1)


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("max_pool(x, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0))", "8, 8, 8"),
        (
            "avg_pool(x, kernel=(3, 3), stride=(1, 1), include_pad=False, "
            "padding=(1, 1, 1, 1))",
            "8, 16, 16",
        ),
        ('softmax(x, axis="co")', "8, 16, 16"),
        ('mean(x, axis="wo")', "8, 16"),
        ("add(x, x)", "8, 16, 16"),
        ("sigmoid(x)", "8, 16, 16"),
        ('concat(x, x, axis="co")', "16, 16, 16"),
        ("transpose(x, axes=(0, 1, 3, 2))", "8, 16, 16"),
        ("reshape(x, shape=(1, 2048))", "2048"),
        ("resize(x, size=(32, 32))", "8, 32, 32"),
        ("matmul(x, x)", "8, 16, 16"),
    ],
)
@pytest.mark.parametrize("target", TARGETS, ids=names())
def test_every_kind_of_kernel(line: str, result: str, target: Target) -> None:
    graph = parse(
        f"def f(x: map[1, 8, 16, 16]) -> map[1, {result}]:\n"
        f"    v0 = {line}\n    return v0\n"
    )
    called = 0.0 if "reshape" in line else FITTED.call / target.machine.clock_hz
    assert called <= seconds(graph, target) < called + 1e-3


def test_the_maps_of_a_convolution_that_are_not_summed_are_stored() -> None:
    graph = parse(
        "def f(x: map[1, 64, 28, 28], w: weight[64, 64, 3, 3]) "
        "-> map[1, 64, 28, 28]:\n"
        "    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1, "
        "padding=(1, 1, 1, 1))\n"
        '    v1 = max(v0, axis="ci")\n'
        "    return v1\n"
    )
    stored = 4 * 64 * 64 * 28 * 28
    assert seconds(graph) > stored / A53.machine.dram_bytes_per_s_1
    assert seconds(graph) > 2 * seconds(conv(64, 64, 28))


def test_traffic_is_labelled_and_grows() -> None:
    small = traffic_latency(1e4, 1e4, A53, 1)
    assert small.source == "analytical-traffic"
    assert small.seconds < traffic_latency(1e7, 1e4, A53, 1).seconds
    assert small.seconds < traffic_latency(1e4, 1e7, A53, 1).seconds
    assert traffic_latency(1e7, 0, A53, 1).seconds > 1e7 / 4e9


def test_bad_arguments() -> None:
    template = parse(
        "def f(x: map[N, C]) -> map[N, C]:\n"
        "    v0 = relu(x, slope=0.0)\n    return v0\n"
    )
    with pytest.raises(BadOption, match=r"template \(symbols C, N\)"):
        graph_latency(template, A53)
    with pytest.raises(BadOption, match="argument threads"):
        graph_latency(conv(4, 4, 4), A53, 0)


def test_what_is_moved_there_and_back_takes_no_time() -> None:
    text = """def f(x: map[2, 6, 11]) -> map[2, 6, 1]:
    v0 = reshape(x, shape=(2, 6, 1, 11))
    v1 = reshape(v0, shape=(2, 6, 11))
    v2 = mean(v1, axis="co", keep=True)
    return v2
"""
    head, _, _, last, end = text.splitlines()
    direct = "\n".join([head, last.replace("v1", "x"), end])
    there, plain = (graph_latency(parse(t), get("arm_a53")) for t in (text, direct))
    assert there.seconds == plain.seconds
