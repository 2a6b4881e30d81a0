"""The command gos-fx: verbs, JSON, exit statuses, messages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import gos_fx
from gos_fx import verbs
from gos_fx.cli import main
from gos_fx.errors import MissingExampleInputs

SOURCE = """
import torch
from torch import nn

print("said while imported")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.pool(self.relu(self.conv(x))).flatten(1))


def build():
    torch.manual_seed(0)
    return Network()


def fail():
    raise ValueError("the checkpoint is gone")


def data():
    x = torch.randn(32, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    batch = (x, build().eval()(x).argmax(1))
    return {"train_data": [batch], "eval_data": [batch]}


network = build()
pair = ([], [])
number = 3
"""
SHAPE = ("--input", "1,1,6,6")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A file of models; what importing it leaves behind goes again."""
    path = tmp_path / "models_of_the_command_line.py"
    path.write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, path.stem, raising=False)
    yield str(path)
    sys.modules.pop(path.stem, None)


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command prints with --json: that and nothing else."""
    status = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that is refused."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    lines = [x for x in err.splitlines() if x != "said while imported"]
    assert lines[0].startswith("gos-fx: ")
    return "\n".join(lines)


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "targets")
    assert [row["name"] for row in found["targets"]] == list(gos_fx.targets())
    assert main(["targets"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in gos_fx.targets())


@pytest.mark.parametrize("name", ["build", "Network", "network"])
def test_profile(capsys: pytest.CaptureFixture[str], models: str, name: str) -> None:
    arguments = ("profile", f"{models}:{name}", "--target", "arm_a53", *SHAPE)
    found = document(capsys, *arguments, "--threads", "2")
    assert found["target"] == "arm_a53" and found["threads"] == 2
    kinds = [row["name"] for row in found["rows"]]
    assert kinds == ["conv", "pool", "flatten", "head", "runtime"]
    assert main(list(arguments)) == 0
    out = capsys.readouterr().out
    assert "conv" in out and "ms +-" in out
    assert "said while imported" not in out


def test_a_package_of_the_working_directory(
    capsys: pytest.CaptureFixture[str], models: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(models).parent)
    found = document(capsys, "profile", f"{Path(models).stem}:build", *SHAPE)
    assert found["target"] == "host"


def test_optimize_and_what_it_saved(
    capsys: pytest.CaptureFixture[str], models: str, tmp_path: Path
) -> None:
    run = str(tmp_path / "run")
    found = document(
        capsys,
        *("optimize", f"{models}:build", "--target", "arm_a53", *SHAPE),
        *("--data", f"{models}:data", "--epsilon", "0.5", "--iterations", "1"),
        *("--population", "4", "--max-replacements", "1", "--only", "conv"),
        *("--run-dir", run, "--seed", "3", "--latency-source", "analytical"),
    )
    assert found["run_dir"] == run
    assert found["accuracy_measured"] is True
    assert found["seed"] == 3 and found["epsilon"] == 0.5
    assert {"baseline", "optimized", "speedup", "replacements"} <= set(found)
    again = document(capsys, "profile", run, "--target", "arm_a53", *SHAPE)
    assert again["parameters"] == found["optimized"]["parameters"]


def test_optimize_as_a_table(capsys: pytest.CaptureFixture[str], models: str) -> None:
    arguments = ["optimize", f"{models}:build", "--target", "arm_a53", *SHAPE]
    arguments += ["--iterations", "1", "--population", "4", "--max-replacements", "1"]
    arguments += ["--latency-source", "analytical"]
    assert main([*arguments, "--constraint", "parameters=1e9"]) == 0
    out, err = capsys.readouterr()
    for text in ("baseline", "optimized", "times as fast", "Accuracy was not measured"):
        assert text in out
    assert "\x1b" not in out + err  # nobody watches


def test_ctrl_c(
    capsys: pytest.CaptureFixture[str], models: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("gos_fx.api.profile", interrupt)
    assert main(["profile", f"{models}:build"]) == 130
    assert capsys.readouterr().err.endswith("gos-fx: interrupted\n")


def test_compile_and_run(
    capsys: pytest.CaptureFixture[str], models: str, tmp_path: Path
) -> None:
    package, x, y = tmp_path / "package", tmp_path / "x.npy", tmp_path / "y.npy"
    weights = tmp_path / "weights.safetensors"
    trained = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Linear(8, 4))
    names = zip(
        ("conv.weight", "conv.bias", "head.weight", "head.bias"),
        trained.state_dict().values(),
        strict=True,
    )
    save_file({name: value + 0.1 for name, value in names}, weights)
    model = ("--weights", str(weights))
    found = document(
        capsys, "compile", f"{models}:build", *model, *SHAPE, "-o", str(package)
    )
    assert found["target"] == "host" and (package / "model.so").exists()
    np.save(x, np.ones((1, 1, 6, 6), np.float32))
    run = ("run", str(package), "--check", f"{models}:build")
    found = document(capsys, *run, *model, "--input", str(x), "--output", str(y))
    assert found["ran"] == "here" and found["agrees"] is True
    assert found["difference"] < 1e-5
    assert found["outputs"][0]["shape"] == [1, 4]
    assert float(np.abs(np.load(y)).max()) == pytest.approx(
        found["outputs"][0]["largest"]
    )
    assert main(list(run)) == 1  # other weights: it does not agree
    out, _ = capsys.readouterr()
    assert "does not agree" in out and "1x4" in out
    message = refusal(capsys, "run", str(package), *("--input", str(x)) * 2)
    assert "2 inputs, the package takes 1" in message
    np.save(x, np.ones((1, 1, 7, 6), np.float32))
    assert "compiled for" in refusal(capsys, "run", str(package), "--input", str(x))
    assert "not a model" in refusal(capsys, "profile", str(package), *SHAPE)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["profile", "{}:build", "--target", "arm_a35", *SHAPE], ["'arm_a53'"]),
        (["profile", "{}:build"], ["(MODEL)", "--input 1,3,224,224"]),
        (["profile", "{}:build", "--input", "1,x"], ["'1,x' is not a shape"]),
        (["profile", "{}:build", "--input", "none.npy"], ["none.npy"]),
        (["profile", "{}:build", "--input", "1,3,6,6"], ["1 channels, but got 3"]),
        (["profile", "{}"], ["neither a directory nor FILE.py:NAME"]),
        (["profile", "{}:biuld", *SHAPE], ["has no 'biuld'", "build"]),
        (["profile", "{}:number", *SHAPE], ["it is int"]),
        (["profile", "{}:data", *SHAPE], ["it gives dict, not a module"]),
        (
            ["profile", "{}:fail", *SHAPE],
            ["ValueError: the checkpoint is gone", "line.py:26"],
        ),
        (["profile", "none.py:build"], ["there is no file none.py"]),
        (["profile", "no.package:build"], ["No module named 'no'"]),
        (["profile", "{}:build", *SHAPE, "--weights", "{}"], ["holds no weights"]),
        (["profile", "{}:build", *SHAPE, "--weights", "none.pt"], ["No such file"]),
        (
            ["optimize", "{}:build", "--target", "host", "--data", "{}:number"],
            ["it gives int", "(train_data, eval_data)"],
        ),
        (
            ["optimize", "{}:build", "--target", "host", "--data", "{}:pair"],
            ["gives no batch"],
        ),
        (
            ["optimize", "{}:build", "--target", "host", "--constraint", "latency"],
            ["'latency' is not a constraint"],
        ),
        (
            ["optimize", "{}:build", "--target", "host", *SHAPE]
            + ["--constraint", "beauty=3"],
            ["no constraint 'beauty'", "energy"],
        ),
        (["run", "/"], ["manifest.json"]),
    ],
)
def test_refusals(
    capsys: pytest.CaptureFixture[str],
    models: str,
    arguments: list[str],
    messages: list[str],
) -> None:
    found = refusal(capsys, *(text.format(models) for text in arguments))
    for message in messages:
        assert message in found


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_another_model(
    capsys: pytest.CaptureFixture[str], models: str, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    state = nn.Linear(3, 3).state_dict()
    if suffix == ".pt":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    found = refusal(
        capsys, "profile", f"{models}:build", *SHAPE, "--weights", str(path)
    )
    assert "the weights are not the model's" in found and "conv.weight" in found


def test_weights_that_would_run_code(
    capsys: pytest.CaptureFixture[str], models: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(nn.Linear(3, 3), path)
    found = refusal(
        capsys, "profile", f"{models}:build", *SHAPE, "--weights", str(path)
    )
    assert "holds no weights" in found


def test_a_saved_run_is_no_package(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert "gos-fx compile" in refusal(capsys, "run", str(tmp_path))


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch, models: str) -> None:
    monkeypatch.setenv("GOS_FX_DEBUG", "1")
    with pytest.raises(MissingExampleInputs):
        main(["profile", f"{models}:build"])


def test_a_wrong_debug_level(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, models: str
) -> None:
    monkeypatch.setenv("GOS_FX_DEBUG", "loud")
    assert "GOS_FX_DEBUG" in refusal(capsys, "profile", f"{models}:build")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 2),
        (["frobnicate"], 2),
        (["compile", "m:m"], 2),
        (["profile", "m:m", "--threads", "0"], 2),
        (["--help"], 0),
        (["--version"], 0),
        (["optimize", "--help"], 0),
    ],
)
def test_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int
) -> None:
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert (out if status == 0 else err) and not (err if status == 0 else out)


def test_json_has_no_infinity(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(arguments: Any) -> verbs.Outcome:
        """Nothing finite."""
        found = {"a": [float("inf"), 1.5], "b": (float("nan"),)}
        return verbs.Outcome(found, lambda out, found: None)

    monkeypatch.setattr(verbs, "targets", infinite)
    assert document(capsys, "targets") == {"a": [None, 1.5], "b": [None]}


def test_the_console_script(models: str) -> None:
    """Installed under its name, and without torch where none is needed."""
    script = Path(sys.executable).parent / "gos-fx"
    if not script.exists():
        pytest.skip("gos_fx is not installed beside this Python")
    run = subprocess.run([script, "targets", "--json"], capture_output=True, text=True)
    assert run.returncode == 0 and json.loads(run.stdout)["targets"]
    run = subprocess.run(
        [sys.executable, "-m", "gos_fx", "profile", f"{models}:build", *SHAPE],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "head" in run.stdout and run.stderr == "said while imported\n"
    code = (
        "import sys; from gos_fx.cli import main; main(['targets']);"
        "assert not {'torch', 'tvm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_a_file_with_dataclasses_is_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dataclasses look their module up while it is being imported."""
    text = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from torch import nn\n"
        "@dataclass\nclass Sizes:\n    width: int = 4\n"
        "model = nn.Sequential(nn.Conv2d(3, Sizes().width, 3)).eval()\n"
    )
    (tmp_path / "sized.py").write_text(text)
    name = f"{tmp_path / 'sized.py'}:model"
    assert main(["profile", name, "--target", "arm_a53", "--input", "1,3,8,8"]) == 0
    assert "conv2d" in capsys.readouterr().out
