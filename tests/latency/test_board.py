"""Boards as a source of latencies, and how a target says where its boards are."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from torch import nn

from gos_fx.errors import BadOption, BoardUnavailable
from gos_fx.ir.parser import parse
from gos_fx.kernels.host import timing_of
from gos_fx.kernels.remote import BoardState, BoardTiming, Limits
from gos_fx.latency.board import BoardSource
from gos_fx.latency.source import open_source
from gos_fx.passes.trace import trace
from gos_fx.targets import get
from gos_fx.targets.record import target_from_json, target_to_json
from gos_fx.targets.target import BoardAddress

KEY = "pi"
LIMITS = Limits(connect_s=60, call_s=60, wait_s=60, repeats=5, spread=1e9)
GRAPH = """
def product(x: map[64, 64], w: weight[64, 64]) -> map[64, 64]:
    v0 = matmul(x, w)
    v1 = relu(v0)
    return v1
"""
VARIABLES = ("TVM_TRACKER_HOST", "TVM_TRACKER_PORT", "TVM_TRACKER_KEY")


@pytest.fixture
def bare(monkeypatch):
    """No tracker in the environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture(scope="module")
def tracker(rpc_farm) -> str:
    address = rpc_farm.tracker()
    rpc_farm.server(address, KEY)
    return address


def test_an_operator(tracker):
    target = get("host").on_board(tracker=tracker, key=KEY)
    source = BoardSource(target, 1, LIMITS)
    estimate = source.operator(parse(GRAPH))
    assert (estimate.source, estimate.target) == ("board", "host")
    assert 1e-7 < estimate.seconds < 10
    assert 0 <= estimate.noise <= estimate.error
    assert source.state.server.startswith("127.0.0.1:")
    assert source.operator(parse(GRAPH)) is estimate  # measured once


def test_a_network_named_by_the_environment(tracker, bare):
    host, port = tracker.split(":")
    for name, value in zip(VARIABLES, (host, port, KEY)):
        bare.setenv(name, value)
    source = open_source("board", get("host"), 1)
    source.boards.limits = LIMITS
    torch.manual_seed(0)
    inputs = (torch.randn(1, 3, 16, 16),)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten()).eval()
    found = source.network(trace(model, inputs), inputs)
    assert found.total.seconds > 0 and found.operators
    parts = [*found.operators.values(), *found.others.values()]
    assert all(part.seconds >= 0 for part in parts)
    assert sum(part.seconds for part in parts) >= 0.999 * found.total.seconds


def test_estimates_of_a_timing(bare):
    """Median, quartiles and drift; what is left is the runtime's."""
    source = BoardSource(get("arm_a53").on_board("127.0.0.1:1", KEY), 1)
    timing = BoardTiming(
        total=timing_of([10.0, 11.0, 12.0, 13.0, 30.0]),
        kernels=(("a", timing_of([3.0, 3.0, 3.0])), ("b", timing_of([4.0] * 3))),
        state=BoardState("127.0.0.1:1", None, 48.3, 1.2e9),
    )
    bare.setattr(source.boards, "measure", lambda *args, **options: timing)
    found = source.measure(None)
    total = found.total
    assert (total.seconds, total.noise) == (12.0, 5.5)
    assert total.error == pytest.approx(5.5 + 0.01 * 12.0)
    assert [k.function for k in found.kernels] == ["a", "b", "runtime"]
    assert [k.latency.seconds for k in found.kernels] == [3.0, 4.0, 5.0]
    assert source.state.temperature_c == 48.3


def test_no_address(bare):
    with pytest.raises(BoardUnavailable, match=r"board arm_a53 is.*TVM_TRACKER_HOST"):
        BoardSource(get("arm_a53"))
    with pytest.raises(BadOption, match="no tracker is given"):
        get("arm_a53").on_board(key=KEY)
    bare.setenv("TVM_TRACKER_HOST", "farm")
    with pytest.raises(BadOption, match="no key is given"):
        get("arm_a53").on_board()
    bare.setenv("TVM_TRACKER_KEY", "pi")
    assert get("arm_a53").on_board().board == BoardAddress("farm", 9190, "pi")


@pytest.mark.parametrize("text", ["farm", ":9190", "farm:", "farm:x", "farm:70000"])
def test_a_bad_address(text):
    with pytest.raises(BadOption, match="is not host:port"):
        get("arm_a53").on_board(tracker=text, key=KEY)


def test_addresses():
    target = get("arm_a53").on_board(server="[::1]:9090")
    assert target.board == BoardAddress("::1", 9090, "", tracker=False)
    with pytest.raises(BadOption, match="both a tracker and a server"):
        get("arm_a53").on_board("a:1", KEY, server="b:2")
    for given in (target, get("arm_a53").on_board("a:1", KEY), get("arm_a53")):
        assert target_from_json(json.loads(json.dumps(target_to_json(given)))) == given
        assert pickle.loads(pickle.dumps(given)) == given
