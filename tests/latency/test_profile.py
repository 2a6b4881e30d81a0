"""Profiles: rows of any source, the sum beside the whole, what was counted."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import gos_fx
from gos_fx import tables
from gos_fx.cli import main
from gos_fx.ir.graph import Graph
from gos_fx.latency.analytical import AnalyticalSource
from gos_fx.latency.model import Estimate, total
from gos_fx.latency.profile import Profile, profile_network
from gos_fx.latency.source import NetworkLatency, Source, open_source
from gos_fx.pipeline import prepare
from gos_fx.targets import get

X = torch.zeros(1, 3, 8, 8)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.flat = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.flat(self.conv(x) * 2)


class Counting:
    """A source as anyone may write one: it counts, and measures a whole of its own."""

    name = "counting"
    target = get("arm_a53")
    threads = 3

    def __init__(self, whole: float) -> None:
        self.whole = whole

    def operator(self, graph: Graph) -> Estimate:
        return self._estimate(1.0)

    def network(
        self, network: fx.GraphModule, inputs: tuple[Any, ...]
    ) -> NetworkLatency:
        return NetworkLatency(
            Estimate(self.whole, 0.5, self.name, self.target.name),
            {"conv": self._estimate(1.0)},
            {"mul": self._estimate(2.0), "runtime": self._estimate(1.0)},
            {"conv": {"cycles": 1234.0, "l1d_misses": 7.0}},
        )

    def _estimate(self, seconds: float) -> Estimate:
        return Estimate(seconds, 0.1, self.name, self.target.name)


def profiled(source: Source) -> Profile:
    return profile_network(prepare(Net().eval(), (X,)), source, (X,))


def shown(profile: Profile) -> str:
    out = io.StringIO()
    tables.show_profile(tables.console(out), profile.to_json())
    return out.getvalue()


def test_rows_of_a_source_of_ones_own() -> None:
    profile = profiled(Counting(4.2))
    assert [row.name for row in profile.rows] == ["conv", "mul", "flat", "runtime"]
    assert [row.latency.seconds for row in profile.rows] == [1.0, 2.0, 0.0, 1.0]
    assert profile.threads == 3 and profile.latency.seconds == 4.2
    assert profile.row("conv").counters == {"cycles": 1234.0, "l1d_misses": 7.0}
    assert profile.row("mul").reason == "glue"
    assert [profile.share(row) for row in profile.rows] == [0.25, 0.5, 0.0, 0.25]


@pytest.mark.parametrize(
    ("whole", "agrees", "verdict"),
    [(4.2, True, "within the error"), (4.6, False, "MORE THAN the error")],
)
def test_the_sum_beside_the_whole(whole: float, agrees: bool, verdict: str) -> None:
    profile = profiled(Counting(whole))
    assert profile.sum.seconds == pytest.approx(4.0)
    assert profile.agrees is agrees
    found: Mapping[str, Any] = profile.to_json()
    assert found["agrees"] is agrees and found["sum"]["seconds"] == profile.sum.seconds
    text = shown(profile)
    assert verdict in text and "l1d misses" in text and "1.23k" in text


def test_a_model_has_no_whole_of_its_own() -> None:
    profile = profiled(open_source("analytical", get("arm_a53"), 2))
    each = [row.latency for row in profile.rows]
    assert profile.sum == total(each, "analytical", "arm_a53")
    assert profile.latency.seconds == pytest.approx(profile.sum.seconds, rel=1e-12)
    assert profile.agrees and "add up" not in shown(profile)


def test_the_analytical_source_is_the_model() -> None:
    source = AnalyticalSource(get("arm_a53"), 99)
    assert source.threads == 4  # the cores that there are
    found = source.network(prepare(Net().eval(), (X,)))
    assert set(found.operators) == {"conv", "flat"}
    assert set(found.others) == {"runtime"}  # the product is part of the convolution
    # A map's channels lie side by side, those of what a network gives do not.
    assert found.operators["flat"].seconds > 0.0


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    path = tmp_path / "a_net.py"
    path.write_text("import torch\nnet = torch.nn.Conv2d(3, 4, 3)\n")
    arguments = ["profile", f"{path}:net", "--input", "1,3,8,8"]
    assert main([*arguments, "--source", "tea leaves"]) == 2
    assert "'tea leaves'" in capsys.readouterr().err
    assert main([*arguments, "--target", "arm_a53", "--source", "host"]) == 2
    assert "not this machine" in capsys.readouterr().err
    assert main([*arguments, "--target", "arm_a53", "--source", "analytical"]) == 0
    assert "analytical" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["example_inputs", "target"])
def test_bad_input(option: str) -> None:
    good = {"target": "arm_a53", "example_inputs": X}
    bad = {"target": "toaster", "example_inputs": torch.zeros(1, 5, 8, 8)}
    with pytest.raises(gos_fx.GosError):
        gos_fx.profile(Net().eval(), **{**good, option: bad[option]})
