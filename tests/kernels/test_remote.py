"""Boards: real trackers and servers on loopback, that work, die, hang and fill up."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import pytest
import torch

from gos_fx.errors import BoardUnavailable, PackageError, UnsteadyMeasurement
from gos_fx.kernels import quarantine, remote_client
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.quarantine import QUARANTINE, Quarantine
from gos_fx.kernels.remote import Boards, Limits
from gos_fx.kernels.remote_client import Worker
from gos_fx.targets import get

KEY = "pi"
# Other tests run beside these: nothing is said about how steady the times are.
LIMITS = Limits(connect_s=60, call_s=60, wait_s=60, repeats=5, spread=1e9)
# A multiplication that takes a board some milliseconds.
TEXT = """
def product(x: map[256, 512], w: weight[512, 512]) -> map[256, 512]:
    v0 = matmul(x, w)
    v1 = relu(v0)
    return v1
"""


def boards_at(address: str, key: str = KEY, **limits: object) -> Boards:
    target = get("host").on_board(tracker=address, key=key)
    return Boards(target.board, Limits(**{**vars(LIMITS), **limits}))


@pytest.fixture(scope="module")
def module(operators):
    return operators({"product": TEXT})


@pytest.fixture(scope="module")
def package(make_package, module, tmp_path_factory):
    inputs = module.example_inputs()
    return make_package(module, inputs, "host", tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def tracker(rpc_farm) -> str:
    return rpc_farm.tracker()


@pytest.fixture(scope="module")
def server(rpc_farm, tracker) -> tuple[int, str]:
    return rpc_farm.server(tracker, KEY)


@pytest.fixture(autouse=True)
def no_quarantine():
    QUARANTINE.clear()
    yield
    QUARANTINE.clear()


@pytest.fixture
def boards(tracker, server):
    return boards_at(tracker)


def test_a_board_computes_what_the_host_does(boards, package, module):
    inputs = module.example_inputs()
    expected = HostModule.from_package(package)(*inputs)
    results = boards.run(package, [x.numpy() for x in inputs], threads=1)
    assert len(results) == len(expected)
    for result, there in zip(results, expected):
        torch.testing.assert_close(torch.from_numpy(result), there)


@pytest.mark.parametrize("alone", [False, True])
def test_measurement(boards, server, package, alone):
    timing = boards.measure(package, threads=1, alone=alone)
    assert len(timing.total.samples) == LIMITS.repeats
    # 134 MFLOP: neither a nanosecond nor a minute.
    assert 1e-5 < timing.total.median < 60
    assert [name for name, _ in timing.kernels] == ["gos_matmul_relu"]
    ((_, kernel),) = timing.kernels
    assert len(kernel.samples) == LIMITS.repeats
    assert all(0 < seconds < 60 for seconds in kernel.samples)
    assert timing.state.server == server[1]
    assert timing.state.model  # from the board's /proc/cpuinfo
    assert not QUARANTINE.reason(server[1])


def test_a_server_without_tracker(rpc_farm, package):
    _, name = rpc_farm.server(None, "alone")
    address = get("host").on_board(server=name, key="alone").board
    boards = Boards(address, LIMITS)
    for _ in range(2):  # it serves one session after the other
        assert boards.measure(package, threads=1).state.server == name


def test_a_large_spread_is_refused(tracker, server, package):
    boards = boards_at(tracker, spread=0.0, attempts=2)
    with pytest.raises(UnsteadyMeasurement, match=r"more than 0%.*127\.0\.0\.1"):
        boards.measure(package, threads=1)


def test_inputs_that_do_not_fit(boards, server, package):
    with pytest.raises(PackageError, match=f"refuses the package.*{server[1]}"):
        boards.run(package, [np.zeros((3, 3), np.float32)], threads=1)
    assert QUARANTINE.reason(server[1]) is None


def test_code_of_another_architecture(boards, make_package, module, tmp_path):
    foreign = make_package(module, module.example_inputs(), "arm_a53", tmp_path)
    with pytest.raises(BoardUnavailable, match=r"cannot load.*It must run.*aarch64"):
        boards.measure(foreign, threads=1)


def test_wrong_key(rpc_farm, tracker, server, package):
    rpc_farm.server(tracker, "other:kind")
    boards = boards_at(tracker, key="pie")
    with pytest.raises(BoardUnavailable, match=r"'pie'.*knows: 'other:kind', 'pi'"):
        boards.measure(package, threads=1)


def test_no_tracker(package):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        port = taken.getsockname()[1]
        boards = boards_at(f"127.0.0.1:{port}")
        with pytest.raises(BoardUnavailable, match=r"no tracker.*Start it: python -m"):
            boards.measure(package, threads=1)


def test_something_else_in_place_of_the_tracker(package):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request")
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        boards = boards_at(f"127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(BoardUnavailable, match="not TVM's tracker"):
            boards.measure(package, threads=1)
        thread.join()


def test_all_boards_are_in_use(rpc_farm, package, tracker):
    from gos_fx.kernels.pool import acquire

    _, name = rpc_farm.server(tracker, "busy")
    boards = boards_at(tracker, key="busy")
    assert acquire(boards.address, 60).name == name  # and no session is begun
    with pytest.raises(BoardUnavailable, match="no board became free in 0 s"):
        acquire(boards.address, 0.1)


@pytest.fixture
def strike(rpc_farm, monkeypatch):
    """A signal to the first server that is about to measure.

    Gives a function of servers and signal, and the list of those that got it.
    """
    struck = []

    def prepare(servers: dict[int, str], number: int) -> list[str]:
        groups = {name: group for group, name in servers.items()}
        event, ask = Worker._event, Worker.ask
        current = {}

        def watched_ask(self, job):
            current.update(name=f"{job['host']}:{job['port']}", calls=0)
            return ask(self, job)

        def watched_event(self, *args):
            found = event(self, *args)
            current["calls"] = current.get("calls", 0)
            current["calls"] += found.get("stage") == "program"
            if current["calls"] == 3 and not struck:  # set up, called once, timed
                struck.append(current["name"])
                rpc_farm.signal(groups[current["name"]], number)
            return found

        monkeypatch.setattr(Worker, "ask", watched_ask)
        monkeypatch.setattr(Worker, "_event", watched_event)
        return struck

    return prepare


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "died"), (signal.SIGSTOP, r"hung \(no answer in")],
    ids=["killed", "hung"],
)
def test_another_board_takes_over(
    rpc_farm, strike, tmp_path, package, number, reason, monkeypatch
):
    """A server is killed, or hangs, in the middle of a measurement."""
    monkeypatch.setattr(quarantine, "_FAILURES", 1)
    tracker = rpc_farm.tracker()
    servers = dict(rpc_farm.server(tracker, KEY, tmp_path) for _ in range(2))
    struck = strike(servers, number)
    # Long enough to be hit, and little patience with what hangs.
    boards = boards_at(tracker, repeats=50, call_s=6)
    timing = boards.measure(package, threads=1)
    (victim,) = struck
    assert timing.state.server != victim
    assert re.search(reason, QUARANTINE.reason(victim))
    # What was uploaded to the victim was removed when it had been loaded.
    assert not list(tmp_path.rglob("*.so"))


def await_end(rpc_farm, groups: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(map(rpc_farm.running, groups)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_only_board_hangs(rpc_farm, package):
    tracker = rpc_farm.tracker()
    group, name = rpc_farm.server(tracker, KEY)
    rpc_farm.signal(group, signal.SIGSTOP)
    worker = remote_client._IDLE[0] if remote_client._IDLE else Worker()
    remote_client._IDLE[:] = [worker]
    boards = boards_at(tracker, connect_s=2)
    with pytest.raises(BoardUnavailable, match=f"no board is left: {name} hung"):
        boards.measure(package, threads=1)
    # The process that hangs in the call, and the one that forked it.
    await_end(rpc_farm, [worker.group])
    # Not asked again: no tracker would have to answer for this.
    with pytest.raises(BoardUnavailable, match=r"asked again in \d+ s"):
        boards.measure(package, threads=1)


@pytest.fixture(params=[4, 24], ids=["nothing fits", "the network does not fit"])
def full_disk(request, tmp_path):
    """(folder on a tiny disk, or where none can be mounted, largest file)."""
    size = request.param << 10
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    yield tmp_path, None if mounted else size
    if mounted:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_full_disk(rpc_farm, full_disk, package):
    assert package.library.stat().st_size > 24 << 10
    tracker = rpc_farm.tracker()
    group, name = rpc_farm.server(tracker, KEY, *full_disk)
    boards = boards_at(tracker)
    with pytest.raises(BoardUnavailable, match=f"{name} cannot store.*disk is full"):
        boards.measure(package, threads=1)
    # Another board of the kind goes on.
    _, other = rpc_farm.server(tracker, KEY)
    assert boards.measure(package, threads=1).state.server == other
    rpc_farm.signal(group, signal.SIGKILL)


def test_no_process_is_left(rpc_farm, tracker, server, package):
    boards = boards_at(tracker)
    boards.measure(package, threads=1)
    groups = [worker.group for worker in remote_client._IDLE]
    assert groups and all(map(rpc_farm.running, groups))
    remote_client.close()
    await_end(rpc_farm, groups)


def test_tvm_without_rpc(tracker, server, package, tmp_path, monkeypatch):
    (tmp_path / "tvm.py").write_text("raise ImportError('No module named tornado')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    remote_client.close()
    with pytest.raises(BoardUnavailable, match=r"tornado.*apache-tvm\[rpc\]"):
        boards_at(tracker).measure(package, threads=1)


def test_quarantine():
    now = 0.0
    ward = Quarantine(lambda: now)
    ward.failed("a:1", "died", 60, at_once=False)
    assert ward.reason("a:1") is None
    ward.worked("a:1")
    ward.failed("a:1", "died", 60, at_once=False)
    assert ward.reason("a:1") is None
    ward.failed("a:1", "died", 60, at_once=False)
    assert ward.reason("a:1") == "died; asked again in 60 s"
    assert ward.reason("b:1") is None
    now = 61.0
    assert ward.reason("a:1") is None
    ward.failed("b:1", "hung", 60, at_once=True)
    assert ward.reason("b:1") == "hung; asked again in 60 s"
