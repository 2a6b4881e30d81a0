"""The benchmark beside other engines, as far as it needs no engine to be fetched."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import engines
from benchmarks.engine import case, emulated, host, worker
from benchmarks.engine.processes import EngineUnavailable, run
from benchmarks.engine.report import Result, table
from gos_fx.emulator.timing import Clock
from gos_fx.targets import get

NETWORK = "mobilenet_v3_small"


def result(engine: str, seconds: float, threads: int = 1) -> Result:
    return Result("net", "host", threads, engine, "1", seconds, 0.01, 1e-6)


def test_table() -> None:
    """Ratios of the two medians; what is missing is empty; the best by each row."""
    found = [
        result("onnxruntime", 2e-3),
        result("ncnn", 4e-3),
        result("gos_fx", 3e-3),
        result("ncnn", 5e-3, threads=2),
    ]
    assert table(found).splitlines() == [
        "| network | on | threads | gos_fx ms | onnxruntime | ncnn | best |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| net | host | 1 | 3.00 | 1.50 (2.00) | 0.75 (4.00) | 1.50 (onnxruntime) |",
        "| net | host | 2 |  |  | (5.00) | ncnn |",
    ]


def test_table_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([vars(result("gos_fx", 3e-3))]))
    monkeypatch.setattr("sys.argv", ["engines", "--table", str(path)])
    engines.main()
    assert "| net | host | 1 | 3.00 |" in capsys.readouterr().out


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--networks", "--engines"):
        with pytest.raises(SystemExit):
            engines._parser().parse_args([option, "nonsense"])
        assert "nonsense" in capsys.readouterr().err


def test_serve_warms_up_and_answers_each_order() -> None:
    calls: list[int] = []
    answers = io.StringIO()
    worker.serve(calls.append, 7, io.StringIO("2\n3\n"), answers)
    lines = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [len(line) for line in lines] == [2, 3]
    assert calls == [7] * (2 + 3 + 2)


def test_aligned() -> None:
    x = np.arange(7, dtype=np.float32)[1:]
    y = worker.aligned(x)
    assert y.ctypes.data % worker.ALIGNMENT == 0
    assert np.array_equal(x, y)


@pytest.mark.parametrize("bad", [np.zeros(3), np.full(4, np.nan)])
def test_a_wrong_output_has_no_error(tmp_path: Path, bad: np.ndarray) -> None:
    np.save(tmp_path / "y.npy", bad)
    np.save(tmp_path / "wanted.npy", np.zeros((1, 4)))
    with pytest.raises(ValueError, match="output has"):
        case.max_abs_error(tmp_path / "y.npy", tmp_path / "wanted.npy")


def test_a_failed_command_says_why() -> None:
    with pytest.raises(EngineUnavailable, match="No such file"):
        run(["cat", "/nonexistent"])


def state(process: int) -> str:
    """``R``, ``S``, ``T`` (stopped), ..."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_worker_stands_still_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed (extra bench)")
    monkeypatch.setenv("GOS_FX_CACHE", str(tmp_path / "cache"))
    found = host.Worker("torch_eager", NETWORK, 1, tmp_path)
    try:
        process = found._process.pid
        assert state(process) == "T"
        assert found.error < 1e-6
        seconds = found.ask(3)
        assert len(seconds) == 3 and min(seconds) > 0
        assert state(process) == "T"
    finally:
        found.close()
    assert found._process.poll() is not None


def test_what_cannot_be_had_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise EngineUnavailable("pip finds no such wheel")

    monkeypatch.setattr(host, "environment", missing)
    assert not list(host.measure(["ncnn"], NETWORK, 1, 1, 2))
    assert "ncnn, mobilenet_v3_small on host" in capsys.readouterr().err
    monkeypatch.setattr(emulated, "environment", missing)
    assert not list(emulated.measure(["ncnn", "inductor"], "x", 4, get("arm_a53")))
    said = capsys.readouterr().err
    assert "no such wheel" in said and "inductor, x on arm_a53, 4 threads" in said


@pytest.mark.qemu
def test_counts_hold_for_every_clock() -> None:
    """A board that differs by its clock alone is not emulated again."""
    boards = [Clock(get(name)) for name in ("arm_a53", "raspberry_pi_3b_plus")]
    one, other = (emulated._key("ncnn", Path("model"), 1, board) for board in boards)
    assert one == other != emulated._key("ncnn", Path("model"), 4, boards[0])
