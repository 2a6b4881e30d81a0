"""Saved runs: what is read back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import gos_fx
from gos_fx.errors import DamagedRunDirectory, Unsupported


class Branchy(nn.Module):
    """Functions and methods between modules, so that the saved graph has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm(self.first(x)))
        y = torch.cat([y[:, :4], self.second(y)[:, 4:]], dim=1) + 0.5 * y
        return self.drop(self.head(y.mean(dim=(2, 3)).flatten(1)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    model = Branchy().eval()
    data = [(torch.randn(16, 3, 8, 8), torch.randint(0, 4, (16,)))]
    directory = tmp_path_factory.mktemp("runs") / "run"
    small = gos_fx.optimize(
        model,
        "arm_a53",
        train_data=data,
        eval_data=data,
        epsilon=0.5,
        iterations=2,
        population=4,
        max_replacements=2,
        run_dir=directory,
        latency_source="analytical",
    )
    return directory, small


def test_loads_what_was_saved(saved: tuple[Path, nn.Module]) -> None:
    directory, small = saved
    loaded = gos_fx.load(directory)
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(loaded(x), small(x))
    assert loaded.code == small.code
    assert loaded.gos.to_json() == small.gos.to_json()
    for i in range(len(small.gos.pareto_front)):
        assert torch.equal(loaded.gos.select(i)(x), small.gos.select(i)(x))


def test_files_hold_no_pickle(saved: tuple[Path, nn.Module]) -> None:
    directory, _ = saved
    assert {p.name for p in directory.iterdir()} == {"run.json", "weights.safetensors"}


def edited(saved: tuple[Path, nn.Module], tmp_path: Path, change: object) -> Path:
    directory, _ = saved
    record = json.loads((directory / "run.json").read_text())
    change(record)  # type: ignore[operator]
    (tmp_path / "run.json").write_text(json.dumps(record))
    data = (directory / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(data)
    return tmp_path


def first_function(record: dict) -> dict:  # type: ignore[type-arg]
    nodes = record["network"]["nodes"]
    return next(n for n in nodes if n["op"] == "call_function")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.from_file",
        "operator.attrgetter",
        "torch.hub.load",
        "operator.methodcaller",
        "torch.nn.functional.torch",
    ],
)
def test_functions_that_do_more_than_compute_are_refused(
    saved: tuple[Path, nn.Module], tmp_path: Path, target: str
) -> None:
    path = edited(saved, tmp_path, lambda r: first_function(r).update(target=target))
    with pytest.raises(DamagedRunDirectory, match="not allowed"):
        gos_fx.load(path)


@pytest.mark.parametrize("method", ["__reduce__", "apply_", "nothing"])
def test_methods_outside_the_list_are_refused(
    saved: tuple[Path, nn.Module], tmp_path: Path, method: str
) -> None:
    def change(record: dict) -> None:  # type: ignore[type-arg]
        first_function(record).update(op="call_method", target=method)

    with pytest.raises(DamagedRunDirectory, match="not allowed"):
        gos_fx.load(edited(saved, tmp_path, change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.update(format=99), "format 99"),
        (lambda r: r.update(sha256="0" * 64), "SHA-256"),
        (lambda r: r.pop("baseline"), "baseline"),
        (lambda r: r.update(chosen=99), "index out of range"),
        (lambda r: r["network"]["modules"]["first"].update(type="Thread"), "no module"),
        (
            lambda r: r["network"]["modules"]["first"].update(type="functional"),
            "no module",
        ),
        (
            lambda r: [x.update(after="import os") for x in r["replacements"]],
            "expected one def",
        ),
    ],
)
def test_damage_is_named(
    saved: tuple[Path, nn.Module], tmp_path: Path, change: object, reason: str
) -> None:
    with pytest.raises(DamagedRunDirectory, match=reason):
        gos_fx.load(edited(saved, tmp_path, change))


def test_missing_and_truncated_files(
    saved: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    with pytest.raises(DamagedRunDirectory, match=r"run\.json"):
        gos_fx.load(tmp_path)
    path = edited(saved, tmp_path, lambda r: None)
    text = (path / "run.json").read_text()
    (path / "run.json").write_text(text[: len(text) // 2])
    with pytest.raises(DamagedRunDirectory, match="not JSON"):
        gos_fx.load(path)


def test_a_module_of_ones_own_cannot_be_saved(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Odd()).eval()
    with pytest.raises(Unsupported, match="Odd"):
        gos_fx.optimize(
            model, "arm_a53", example_inputs=torch.zeros(1, 3, 8, 8), run_dir=tmp_path
        )
