"""Every module imports only from its own layer or from lower ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From low to high; the first matching prefix of a module decides.
LAYERS: dict[str, int] = {
    "gos_fx.errors": 0,
    "gos_fx.registry": 0,
    "gos_fx.config": 0,
    "gos_fx.ir": 1,
    "gos_fx.instructions": 2,
    "gos_fx.targets": 2,
    "gos_fx.emulator": 3,
    "gos_fx.passes": 4,
    "gos_fx.kernels": 4,
    "gos_fx.latency": 5,
    "gos_fx.evolve": 6,
    "gos_fx.checks": 7,
    "gos_fx.compiled": 7,
    "gos_fx.lowered": 7,
    "gos_fx.measuring": 7,
    "gos_fx.options": 7,
    "gos_fx.pipeline": 7,
    "gos_fx.points": 7,
    "gos_fx.preparation": 7,
    "gos_fx.result": 7,
    "gos_fx.store": 7,
    "gos_fx.tuner": 7,
    "gos_fx.tuning_result": 7,
    "gos_fx.api": 8,
    "gos_fx.tuning": 8,
    "gos_fx.backend": 9,
    "gos_fx.arguments": 9,
    "gos_fx.doctor": 9,
    "gos_fx.reference": 9,
    "gos_fx.tables": 9,
    "gos_fx.tables_board": 9,
    "gos_fx.tables_show": 9,
    "gos_fx.tables_tuning": 9,
    "gos_fx.verbs": 9,
    "gos_fx.verbs_board": 9,
    "gos_fx.verbs_emulate": 9,
    "gos_fx.verbs_show": 9,
    "gos_fx.verbs_tuning": 9,
    "gos_fx.cli": 9,
    "gos_fx.__main__": 9,
}
# Same layer, but neither may know the other.
APART = (("gos_fx.passes", "gos_fx.kernels"),)
# Who alone may import what, and where the import must not cost anything at start-up.
ONLY = {"tvm": "gos_fx.kernels", "tvm_ffi": "gos_fx.kernels", "deap": "gos_fx.evolve"}


def modules() -> dict[str, Path]:
    """Package name -> file, for the three source folders."""
    found = {}
    for folder, package in (
        ("gos_fx", "gos_fx"),
        ("passes", "gos_fx.passes"),
        ("kernels", "gos_fx.kernels"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            found[".".join((package, *parts))] = path
    return found


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def layer_prefix(module: str) -> str | None:
    return next((prefix for prefix in LAYERS if within(module, prefix)), None)


def imports(source: str) -> set[str]:
    """Modules that a source imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(module: str, source: str) -> list[str]:
    mine = layer_prefix(module)
    if mine is None:
        return [f"{module} has no layer: add it to LAYERS"]
    bad = []
    for name in sorted(imports(source)):
        if name.split(".")[0] in ONLY and not within(module, ONLY[name.split(".")[0]]):
            bad.append(f"{module} imports {name}")
        theirs = layer_prefix(name)
        if theirs is None:
            continue
        apart = any({mine, theirs} == set(pair) for pair in APART)
        if LAYERS[theirs] > LAYERS[mine] or apart:
            bad.append(f"{module} ({mine}) imports {name} ({theirs})")
    return bad


@pytest.mark.parametrize("module", [m for m in modules() if m != "gos_fx"])
def test_imports_only_from_lower_layers(module: str) -> None:
    assert violations(module, modules()[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gos_fx.ir.graph", "from gos_fx.passes.lower import lower"),
        ("gos_fx.passes.lower", "from gos_fx.kernels.build import build"),
        ("gos_fx.kernels.build", "import gos_fx.passes"),
        ("gos_fx.latency.model", "def f():\n    import tvm"),
        ("gos_fx.errors", "from gos_fx.api import optimize"),
        ("gos_fx.passes.emit", "from deap import tools"),
    ],
)
def test_a_leak_is_caught(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


def test_a_module_without_layer_is_caught() -> None:
    found = violations("gos_fx.stray", "")
    assert found == ["gos_fx.stray has no layer: add it to LAYERS"]
