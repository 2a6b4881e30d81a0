"""``import gos_fx`` is cheap: what is heavy loads when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gos_fx
from gos_fx.errors import GosError
from gos_fx.targets.target import Target

HEAVY = ("torch", "tvm", "tvm_ffi", "deap", "onnx", "scipy", "sklearn", "numpy", "rich")


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name for name in HEAVY if name in run.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    ["import gos_fx", "import gos_fx; gos_fx.targets()", "import gos_fx.latency.model"],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    assert loaded_after(statement) == set()


def test_the_latency_model_needs_no_compiler() -> None:
    assert loaded_after("import gos_fx.latency.analytical") <= {"torch", "numpy"}


def test_the_api_does_not_load_the_compiler() -> None:
    loaded = loaded_after("import gos_fx; gos_fx.optimize")
    assert loaded <= {"torch", "numpy", "deap"}


@pytest.mark.parametrize("name", gos_fx.__all__)
def test_public_names_resolve(name: str) -> None:
    assert callable(getattr(gos_fx, name))
    assert name in dir(gos_fx)


def test_lazy_names_are_the_real_ones() -> None:
    assert gos_fx.GosError is GosError
    assert gos_fx.Target is Target


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        _ = gos_fx.optimise


def test_targets_is_a_function_and_a_package() -> None:
    import gos_fx.targets.arm

    assert "arm_a53" in gos_fx.targets()
    assert gos_fx.targets.arm.ARM_A53.name == "arm_a53"
