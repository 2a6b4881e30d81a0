"""The command gos-fx show."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gos_fx.cli import main
from gos_fx.ir.parser import parse
from gos_fx.ir.verifier import verify
from gos_fx.tables_show import annotated, show_graphs

SOURCE = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()

    def forward(self, x):
        return x + self.relu(self.bn(self.conv(x)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Block(), Block()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.second(self.first(x)).mean((2, 3))
        return torch.fft.fft(self.head(x)).real


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 3, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.rnn(x)[0]
"""
SHAPE = ("--input", "2,4,6,5")


@pytest.fixture
def models(tmp_path: Path) -> str:
    # A name of its own for each test: modules stay imported.
    path = tmp_path / f"shown_{tmp_path.name}.py"
    path.write_text(SOURCE)
    return str(path)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status = main(["show", *arguments])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown(capsys, *arguments, "--json"))
    return found


def graphs(text: str) -> list[str]:
    """The definitions in an output."""
    return re.findall(r"^def .*?^    return \w+$", text, re.M | re.S)


def test_every_operator_with_shapes(
    capsys: pytest.CaptureFixture[str], models: str
) -> None:
    out = shown(capsys, f"{models}:Network", *SHAPE)
    assert "# first.conv with first.bn, first.relu\n# second.conv with" in out
    assert 'v1 = sum(v0, axis="ci")' in out
    assert "# map[2, 4, 4, 6, 5]" in out and "# map[2, 3]" in out
    assert all(verify(parse(text)).is_concrete for text in graphs(out))
    assert re.search(r"fft_fft +fft_fft has no lowering", out)
    assert "6 of 8 operators are instruction graphs (75.0 %)." in out
    assert "\x1b" not in out  # nobody watches


def test_one_operator_a_part_of_one_and_a_module(
    capsys: pytest.CaptureFixture[str], models: str
) -> None:
    name = f"{models}:Network"
    for part in ("first.conv", "first.bn"):
        out = shown(capsys, name, *SHAPE, "--operator", part)
        assert out.count("def ") == 1 and out.startswith("# first.conv with first.bn")
        assert "operators are instruction graphs" not in out
    found = document(capsys, name, *SHAPE, "--operator", "first")
    assert [row["name"] for row in found["operators"]] == ["first.conv"]
    out = shown(capsys, name, *SHAPE, "--operator", "fft_fft")
    assert "def " not in out and "no lowering" in out


def test_templates_have_symbols_and_each_operator_its_sizes(
    capsys: pytest.CaptureFixture[str], models: str
) -> None:
    out = shown(capsys, f"{models}:Network", *SHAPE, "--template")
    assert "def linear(x: map[N, C_in], *, w: weight[C_out, C_in]" in out
    assert "# head: N=2, C_in=4, C_out=3" in out
    assert not any(parse(text).is_concrete for text in graphs(out))


def test_json_has_every_operator(
    capsys: pytest.CaptureFixture[str], models: str
) -> None:
    found = document(capsys, f"{models}:Network", *SHAPE)
    names = [row["name"] for row in found["operators"]]
    assert len(names) == found["lowered"] == 6 and found["count"] == 8
    assert found["coverage"] == pytest.approx(6 / 8)
    assert found["not_lowered"][0]["name"] == "fft_fft"
    row = found["operators"][names.index("head")]
    assert row["sizes"] == {"N": 2, "C_in": 4, "C_out": 3}
    template = parse(row["template"])
    assert template.instantiate(row["sizes"]) == parse(row["graph"])


@pytest.mark.parametrize("width", [30, 80, 200])
def test_a_graph_parses_back_at_any_width(
    capsys: pytest.CaptureFixture[str], models: str, width: int
) -> None:
    found = document(capsys, f"{models}:Recurrent", "--input", "2,5,4")
    (row,) = found["operators"]
    graph = parse(row["graph"])
    assert graph.bodies
    text = annotated(graph, width)
    assert parse(text) == graph
    if width == 80:
        assert max(map(len, text.splitlines())) <= width
    out = io.StringIO()
    show_graphs(Console(file=out, width=width, highlight=False), found)
    assert text in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (
            ("{}:Network", *SHAPE, "--operator", "first.conf"),
            ["no operator 'first.conf'", "it has first.conv, "],
        ),
        (("{}:Network", *SHAPE, "--operator", "0"), ["it has first.conv, add"]),
        (("{}:Network",), ["--input 1,3,224,224"]),
        (("{}:Network", "--input", "1,3,6,6"), ["4 channels, but got 3"]),
        (("{}:Nothing", *SHAPE), ["has no 'Nothing'"]),
    ],
)
def test_refusals(
    capsys: pytest.CaptureFixture[str],
    models: str,
    arguments: tuple[str, ...],
    messages: list[str],
) -> None:
    assert main(["show", *(text.format(models) for text in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    for message in messages:
        assert message in err
