"""Every snippet of the README runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from gos_fx import cli
from gos_fx.ir.parser import parse
from gos_fx.ir.verifier import verify

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    text = README.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def test_python_snippets_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, in one namespace, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for snippet in blocks("python"):
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert (tmp_path / "package" / "model.so").exists()
    assert (tmp_path / "run" / "run.json").exists()
    assert "torch.Size([1, 10])" in capsys.readouterr().out


def test_graph_text_is_one() -> None:
    (text,) = blocks("text")
    assert verify(parse(text)).text == text.strip()


def test_commands_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()
    commands = [line for block in blocks("") for line in block.splitlines()]
    for name in re.findall(r"^make (\w+)", "\n".join(commands), re.M):
        assert re.search(rf"^{name}:", makefile, re.M), name
    for line in commands:
        if line.startswith("gos-fx"):
            with pytest.raises(SystemExit) as stop:
                cli.main([line.split()[1], "--help"])
            assert stop.value.code == 0
