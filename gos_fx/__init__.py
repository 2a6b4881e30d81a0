"""gos_fx: a trained PyTorch network in, a faster one for an ARM board out.

The public names are imported on first use, so that ``import gos_fx`` costs nothing:
torch, TVM and DEAP are loaded by the function that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gos_fx.api import compile, load, lower, optimize, profile
    from gos_fx.compiled import CompiledModel
    from gos_fx.errors import GosError
    from gos_fx.lowered import LoweredModel
    from gos_fx.result import OptimizationResult
    from gos_fx.targets.files import load_target, register_target
    from gos_fx.targets.target import Target
    from gos_fx.tuning import tune
    from gos_fx.tuning_result import TuningResult

    def targets() -> tuple[str, ...]:
        """Names of the targets. At run time the package ``gos_fx.targets``, called."""


__version__ = "0.1.0"
__all__ = [
    "CompiledModel",
    "GosError",
    "LoweredModel",
    "OptimizationResult",
    "Target",
    "TuningResult",
    "compile",
    "load",
    "load_target",
    "lower",
    "optimize",
    "profile",
    "register_target",
    "targets",
    "tune",
]

_HOME = {
    "CompiledModel": "gos_fx.compiled",
    "GosError": "gos_fx.errors",
    "LoweredModel": "gos_fx.lowered",
    "OptimizationResult": "gos_fx.result",
    "Target": "gos_fx.targets.target",
    "TuningResult": "gos_fx.tuning_result",
    "compile": "gos_fx.api",
    "load": "gos_fx.api",
    "load_target": "gos_fx.targets.files",
    "lower": "gos_fx.api",
    "optimize": "gos_fx.api",
    "profile": "gos_fx.api",
    "register_target": "gos_fx.targets.files",
    "tune": "gos_fx.tuning",
}


def __getattr__(name: str) -> Any:
    if name == "targets":  # a package that can be called: see its __init__
        return import_module("gos_fx.targets")
    if name not in _HOME:
        raise AttributeError(f"module 'gos_fx' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
