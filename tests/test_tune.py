"""gos_fx.tune: what is asked of a source, what is kept, what compilations use."""

from __future__ import annotations

import functools
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gos_fx
from gos_fx import tuner as tuner_module
from gos_fx import tuning
from gos_fx.cli import main
from gos_fx.errors import (
    BadOption,
    BoardUnavailable,
    CompileError,
    MissingExampleInputs,
    TrainingModeError,
    UnknownTarget,
)
from gos_fx.ir.fusion import partition
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.kernels.build import build_operator, kernels_of
from gos_fx.kernels.host_timing import Repeats
from gos_fx.kernels.tuning.alone import with_sizes
from gos_fx.kernels.tuning.records import Records, ignored
from gos_fx.kernels.tuning.setting import Setting
from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.kernels.tuning.space import Space
from gos_fx.kernels.tuning.trial import Choice
from gos_fx.latency.analytical import AnalyticalSource
from gos_fx.latency.host import HostSource
from gos_fx.latency.model import Estimate
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.targets import get
from gos_fx.tuner import KernelTuner
from gos_fx.tuning_result import Found

A53 = get("arm_a53")
X = torch.zeros(1, 16, 14, 14)
CALM = Repeats(most=5, least=3, seconds=0.05, limit=1e9, attempts=1)
TEXT = """\
def kernel(x0: map[1, 16, 14, 14], *, w1: weight[24, 16, 5, 5], w2: weight[24]) -> map[1, 24, 14, 14]:
    v0 = cross_correlation(x0, w1, stride=(1, 1), dilation=(1, 1), groups=1, padding=(2, 2, 2, 2))
    v1 = sum(v0, axis="ci")
    v2 = add(v1, w2)
    return v2
"""  # noqa: E501
MODELS = """
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU())
"""


class Twice(nn.Module):
    """Two equal convolutions, a larger one, and what has no tile."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(16, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 16, 3, padding=1)
        self.c = nn.Conv2d(16, 64, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.c(self.b(self.a(x))), 1)


@functools.cache
def space_of(text: str) -> Space:
    space = Space.of(parse(text), A53.machine)
    assert space is not None
    return space


def distance(graph: Graph) -> int:
    """Steps from the tile to one that is four steps from the default's."""
    bare = with_sizes(graph, Sizes((), ()))
    space = space_of(replace(bare, name="kernel").text)
    default = dict(space.default.tile)
    tile = default | tile_of(graph)
    steps = 0
    for loop, choices in space.tiles.items():
        wanted = choices.index(default[loop])
        if loop in ("co", "wo"):
            wanted += 2 if wanted < 2 else -2
        steps += abs(choices.index(tile[loop]) - wanted)
    return steps


class Scripted:
    """A source whose latencies are a function of the tile, with a note of each graph.

    Args:
        latency: seconds, from the graph and how often its tile was asked for before.
        noise: seconds.
    """

    name = "scripted"

    def __init__(
        self,
        latency: Callable[[Graph, int], float] | None = None,
        noise: float = 0.0,
    ) -> None:
        self.target, self.threads = A53, 1
        self.latency, self.noise = latency or by_distance, noise
        self.asked: list[Graph] = []

    def operator(self, graph: Graph) -> Estimate:
        before = sum(sizes_of(other) == sizes_of(graph) for other in self.asked)
        self.asked.append(graph)
        seconds = self.latency(graph, before)
        return Estimate(seconds, self.noise, self.name, self.target.name)

    def network(self, network: Any, inputs: Any) -> Any:
        raise AssertionError("only kernels are measured")


def by_distance(graph: Graph, before: int) -> float:
    return 1.0 + distance(graph) / 8


def sizes_of(graph: Graph) -> Sizes:
    (kernel,) = partition(graph)
    return Sizes(kernel.tile, kernel.unroll)


def tile_of(graph: Graph) -> dict[str, int]:
    return dict(sizes_of(graph).tile)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOS_FX_CACHE", str(tmp_path / "cache"))
    # the scripted sources have little to do with what the model believes
    monkeypatch.setattr(tuner_module, "HOPELESS", 1e9)
    return tmp_path / "cache"


def tuner(source: Any, **options: Any) -> KernelTuner:
    graph, space = parse(TEXT), space_of(TEXT)
    settings = {"trials": 24} | options
    analytical, rng = AnalyticalSource(A53, 1), random.Random(settings.pop("seed", 0))
    return KernelTuner(graph, space, source, analytical, Records(), rng, **settings)


def tuned(source: Any, **options: Any) -> Found:
    one = tuner(source, **options)
    one.run()
    return one.finish()


def test_a_better_tile_is_found_and_kept() -> None:
    source = Scripted()
    found = tuned(source)
    assert found.sizes is not None and found.stands
    best = min(source.asked, key=distance)
    assert dict(found.sizes.tile) == tile_of(best)
    assert sizes_of(source.asked[0]) == Sizes((), ())  # the default, as it is compiled
    assert found.before is not None and found.after is not None
    assert found.before.seconds == by_distance(source.asked[0], 0)
    assert found.after.seconds == by_distance(best, 0) < found.before.seconds
    kept = Records().tuned(Setting.of(A53, 1))
    assert kept == {parse(TEXT).digest: found.sizes}


def test_what_is_near_the_best_is_looked_at() -> None:
    """The model ranks half of the trials; the rest goes where the source leads."""

    def latency(graph: Graph, before: int) -> float:
        return 0.5 if len(source.asked) == 5 or before else 1.0

    source = Scripted(latency)
    tuned(source, trials=20)
    near = space_of(TEXT).near(sizes_of(source.asked[4]))
    ranked, led = source.asked[1:11], source.asked[11:16]
    assert all(sizes_of(graph) in near for graph in led)
    assert not all(sizes_of(graph) in near for graph in ranked)


def test_what_the_model_thinks_hopeless_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tuner_module, "HOPELESS", 2.0)
    source, model = Scripted(), AnalyticalSource(A53, 1)
    tuned(source, trials=1000)
    most = 2.0 * model.operator(source.asked[0]).seconds
    assert 3 < len(source.asked) < 300
    assert all(model.operator(graph).seconds <= most for graph in source.asked)


def test_the_same_seed_asks_the_same() -> None:
    asked = []
    for seed in (0, 0, 1):
        Records().path.unlink(missing_ok=True)
        source = Scripted()
        tuned(source, seed=seed)
        asked.append([graph.text for graph in source.asked])
    assert asked[0] == asked[1] != asked[2]


def test_what_is_known_is_not_measured_again() -> None:
    first, second = Scripted(), Scripted()
    before = tuned(first)
    after = tuned(second)
    assert len(first.asked) == 24 + 2  # and the best and the default once more
    assert second.asked == []
    assert (after.measured, after.known, after.sizes) == (0, 24, before.sizes)


def test_more_trials_go_on_where_fewer_ended() -> None:
    first, second = Scripted(), Scripted()
    tuned(first, trials=6)
    assert tuned(second, trials=24).known == 6
    name = first.asked[0].name  # of those that are not there to confirm
    known, new = (
        {sizes_of(graph) for graph in source.asked if graph.name == name}
        for source in (first, second)
    )
    assert len(known) == 6 and len(new) >= 18 and not known & new


def test_a_gain_within_the_repeat_error_is_none() -> None:
    source = Scripted(lambda g, before: 1.0 + by_distance(g, 0) / 100, noise=0.05)
    found = tuned(source)
    assert found.sizes is None and found.after == found.before
    assert Records().tuned(Setting.of(A53, 1)) == {}
    assert len(source.asked) == 24  # there was nothing to confirm


def test_luck_is_none_either() -> None:
    """The best candidate was fast once; measured again it is as slow as the others."""
    lucky: list[Sizes] = []

    def latency(graph: Graph, before: int) -> float:
        if len(source.asked) == 5:
            lucky.append(sizes_of(graph))
        return 0.5 if sizes_of(graph) in lucky and not before else 1.0

    source = Scripted(latency)
    assert tuned(source).sizes is None
    assert [sizes_of(graph) for graph in source.asked].count(lucky[0]) == 2
    again = Scripted()
    assert tuned(again).sizes is None and again.asked == []


def test_candidates_that_fail_are_skipped_next_time() -> None:
    def latency(graph: Graph, before: int) -> float:
        if distance(graph) < 2:
            raise CompileError("it spills")
        return by_distance(graph, before)

    first, second = Scripted(latency), Scripted(latency)
    found = tuned(first, trials=100)
    assert found.failed > 0 and found.after is not None
    assert found.after.seconds == 1.25
    assert tuned(second, trials=100).known == 100 and second.asked == []


def test_a_default_that_fails() -> None:
    def latency(graph: Graph, before: int) -> float:
        raise CompileError("no such instruction")

    source = Scripted(latency)
    found = tuned(source)
    assert found.before is None and found.sizes is None
    assert "no such instruction" in found.failure and len(source.asked) == 1


def test_the_deadline() -> None:
    def latency(graph: Graph, before: int) -> float:
        time.sleep(0.05)
        return by_distance(graph, before)

    source = Scripted(latency)
    started = time.monotonic()
    found = tuned(source, trials=1000, deadline=started + 0.4)
    # the model's ranking of what to measure is in this time too
    assert time.monotonic() - started < 0.4 + 0.05 + 0.5
    assert 1 <= len(source.asked) <= 9
    assert found.measured == len(source.asked)
    late = Scripted(latency)
    other = tuner(late, trials=1000, deadline=time.monotonic())
    other.run()
    assert other.finish().known == found.measured and late.asked == []


def test_own_sizes_stay() -> None:
    graph = with_sizes(parse(TEXT), Sizes.of({"co": 8}, {}))
    space = Space.of(graph, A53.machine)
    assert space is not None
    source = Scripted(lambda graph, before: 1.0)
    rng = random.Random(0)
    analytical = AnalyticalSource(A53, 1)
    one = KernelTuner(graph, space, source, analytical, Records(), rng, trials=20)
    one.run()
    assert {tile_of(graph)["co"] for graph in source.asked} == {8}
    assert len({tile_of(graph).get("wo") for graph in source.asked}) > 2


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler is not asked which kernels a network has."""
    larger = parse(TEXT.replace("24", "64"))
    monkeypatch.setattr(tuning, "kernels_of", lambda *_: (parse(TEXT), larger))


def tune(source: Any, **options: Any) -> gos_fx.TuningResult:
    settings: dict[str, Any] = {"example_inputs": X, "trials": 6, "threads": 1}
    settings |= {"latency_source": source} | options
    return gos_fx.tune(settings.pop("model", Twice()).eval(), A53, **settings)


def test_the_kernels_of_a_network() -> None:
    source = Scripted()
    told: list[dict[str, Any]] = []
    result = tune(source, progress=told.append)
    larger, equal = result.kernels
    assert "1x64x14x14" in larger.name and "1x16x14x14" in equal.name
    assert (larger.calls, equal.calls) == (1, 2)
    assert larger.found.measured + equal.found.measured == len(source.asked)
    assert [t["kernel"] for t in told] == [0] * 6 + [1] * 6
    assert [t["trial"] for t in told] == [1, 2, 3, 4, 5, 6] * 2
    assert all(t["after_s"] <= t["before_s"] for t in told)
    assert larger.found.before is not None and equal.found.before is not None
    whole = larger.found.before.seconds + 2 * equal.found.before.seconds
    assert result.before.seconds == pytest.approx(whole)
    assert result.after.seconds <= result.before.seconds
    assert json.loads(json.dumps(result.to_json()))["kernels"][1]["calls"] == 2


def test_a_network_that_is_known(listed: None) -> None:
    tune(Scripted())
    source = Scripted()
    result = tune(source)
    assert source.asked == []
    assert [(k.found.measured, k.found.known) for k in result.kernels] == [(0, 6)] * 2


def test_tuned_sizes_reach_the_code(tmp_path: Path) -> None:
    """What is compiled with a record is what its sizes as nodes of the graph give."""
    graph, sizes = parse(TEXT), Sizes.of({"co": 4, "ho": 1, "n": 1, "wo": 7}, {"ci": 1})

    def tir(graph: Graph, threads: int = 1) -> tuple[str, tuple[str, ...]]:
        found = build_operator(graph, A53, tmp_path, threads, listings=True)
        return found.tir, found.tuned

    default, wanted = tir(graph), tir(with_sizes(graph, sizes))
    assert default[0] != wanted[0] and default[1] == wanted[1] == ()
    choice = Choice(sizes, 1.0, 2.0, 0.1, "emulator", 0.0)
    Records().decide(graph.digest, Setting.of(A53, 1), choice, ())
    assert tir(graph) == (wanted[0], (graph.digest,))
    assert tir(graph, threads=4)[1] == ()
    with ignored():
        assert tir(graph) == default
    (kernel,) = kernels_of(
        make_opaque(nn.Sequential(nn.Conv2d(16, 24, 5, padding=2)).eval(), (X,)),
        (X,),
        A53,
        1,
    )
    assert kernel == graph


def test_by_this_machine(tmp_path: Path) -> None:
    """Real code, really measured."""
    source = HostSource(get("host"), 1, CALM)
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1)).eval()
    x = torch.randn(1, 8, 10, 10)
    options: dict[str, Any] = {"latency_source": source, "trials": 3, "threads": 1}
    result = gos_fx.tune(model, "host", example_inputs=x, **options)
    (kernel,) = result.kernels
    assert kernel.found.measured >= 3 and kernel.found.before is not None
    assert result.source == "host" and result.target == "host"
    compiled = gos_fx.compile(model, "host", example_inputs=x, threads=1)
    torch.testing.assert_close(compiled(x)[0], model(x).detach(), atol=1e-5, rtol=1e-4)


def test_ctrl_c_keeps_what_was_found(listed: None) -> None:
    def stop(told: dict[str, Any]) -> None:
        if told["kernel"] == 0 and told["trial"] == 5:
            raise KeyboardInterrupt

    source = Scripted(lambda graph, before: 1 / len(source.asked))
    result = tune(source, progress=stop)
    assert result.interrupted and len(result.kernels) == 1
    (kernel,) = result.kernels
    assert kernel.found.sizes == sizes_of(source.asked[4]) and len(source.asked) == 5
    assert list(Records().tuned(Setting.of(A53, 1)).values()) == [kernel.found.sizes]


def test_a_source_that_is_lost_keeps_what_was_found(listed: None) -> None:
    def latency(graph: Graph, before: int) -> float:
        if len(source.asked) > 5:
            raise BoardUnavailable("the board is gone")
        return 1 / len(source.asked)

    source = Scripted(latency)
    with pytest.raises(BoardUnavailable):
        tune(source)
    (kept,) = Records().tuned(Setting.of(A53, 1)).values()
    assert kept == sizes_of(source.asked[4])


def test_no_time_at_all(listed: None) -> None:
    source = Scripted()
    result = tune(source, time_budget=0)
    assert source.asked == []
    assert all(kernel.found.before is None for kernel in result.kernels)
    assert result.before.seconds == result.after.seconds == 0.0


def test_auto_without_any_tool(listed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = tune("auto")
    assert result.source == "analytical"
    assert [refused["source"] for refused in result.refused] == ["emulator"]


@pytest.mark.parametrize(
    "options, error",
    [
        ({"trials": 0}, BadOption),
        ({"trials": "many"}, BadOption),
        ({"time_budget": -1}, BadOption),
        ({"threads": 0}, BadOption),
        ({"latency_source": "oracle"}, BadOption),
        ({"latency_source": "host"}, BadOption),
        ({"example_inputs": None}, MissingExampleInputs),
        ({"model": nn.Conv2d(16, 16, 3)}, TrainingModeError),
    ],
    ids=str,
)
def test_bad_arguments(
    options: dict[str, Any], error: type[Exception], cache: Path
) -> None:
    settings: dict[str, Any] = {"latency_source": "analytical", "example_inputs": X}
    settings |= options
    with pytest.raises(error):
        gos_fx.tune(settings.pop("model", Twice().eval()), A53, **settings)
    assert not cache.exists()


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(UnknownTarget):
        gos_fx.tune(Twice().eval(), "arm_a35", example_inputs=X)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "models_to_tune.py"
    path.write_text(MODELS)
    arguments = ["tune", f"{path}:build", "--target", "arm_a53", "--input", "1,4,9,9"]
    arguments += ["--latency-source", "analytical", "--trials", "4", "--threads", "1"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"] == "arm_a53" and found["threads"] == 1
    (kernel,) = found["kernels"]
    assert kernel["measured"] == 4 and kernel["before_s"] >= kernel["after_s"] > 0
    assert Path(found["records"]).exists()
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "1x8x9x9" in out and "ms" in out
    assert main([*arguments, "--time-budget", "-3"]) == 2
    assert "time_budget" in capsys.readouterr().err
