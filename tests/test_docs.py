"""The page of the instruction set is that of the declarations."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gos_fx.ir.opcode import OPCODES
from gos_fx.reference.examples import example
from gos_fx.reference.page import CATEGORIES, page

PAGE = Path(__file__).parent.parent / "docs" / "instructions.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), (
        "run: python -m gos_fx.reference > docs/instructions.md"
    )


def test_the_command_prints_the_page() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gos_fx.reference"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == page()


def test_every_instruction_has_a_section_and_a_row() -> None:
    text = PAGE.read_text()
    assert sorted(re.findall(r"^### (\w+)$", text, re.M)) == sorted(OPCODES)
    assert sorted(re.findall(r"^\| \[`(\w+)`\]", text, re.M)) == sorted(OPCODES)
    assert {OPCODES[name].category for name in OPCODES} == set(CATEGORIES)


@pytest.mark.parametrize("name", sorted(OPCODES))
def test_a_section_says_what_the_declaration_says(name: str) -> None:
    opcode = OPCODES[name]
    _, _, section = PAGE.read_text().partition(f"\n### {name}\n")
    section, _, _ = section.partition("\n###")
    equation = opcode.equation.partition("\n\n")[0].replace("``", "")
    assert f"```text\n{equation}\n```" in section
    for attribute in opcode.attributes:
        assert f"| `{attribute}=` |" in section
    assert f"| gradient | {'yes' if opcode.differentiable else 'no'} |" in section
    kind = "exact" if opcode.exact else "approximate"
    assert f"| TVM | yes, {kind}, tolerance {opcode.rtol:g} |" in section
    if isinstance(opcode.onnx, str):
        assert f"| ONNX | `{opcode.onnx}` |" in section
    assert ("| ONNX | none |" in section) == (opcode.onnx is None)


@pytest.mark.parametrize("name", sorted(OPCODES))
def test_an_example_is_of_the_instruction_alone(name: str) -> None:
    (node,) = example(OPCODES[name]).nodes
    assert node.opcode == name


def test_tables_have_as_many_cells_in_every_row() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.M):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1, table
