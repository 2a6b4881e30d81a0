"""What an engine is to the benchmark.

A file of ``benchmarks.engine.engines`` holds three things: ``ENGINE``, the record
below; ``convert(network, example, folder)``, which writes the engine's model files for
a torch network and an input tensor; and ``load(name, folder, threads)``, which gives a
function from the input to the output. An engine that takes torch networks as they are
has no ``convert``, builds the network by its name, and leaves ``folder`` alone.

The file is imported by this process, by one in the engine's own environment and by one
on the emulated board, so it imports nothing at its top that one of them may lack.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

Run = Callable[[Any], Any]

OURS = "gos_fx"
# In the order of reports.
NAMES = (
    "torch_eager",
    "inductor",
    "onnxruntime",
    "executorch",
    "ncnn",
    "litert",
    OURS,
)


@dataclass(frozen=True)
class Engine:
    """What it needs.

    Attributes:
        distribution: whose version is the engine's.
        requires: what pip installs into an environment of its own; nothing: it runs in
            the environment of this process.
        guest: what pip installs for the emulated board; nothing: it does not run there.
        guest_dependencies: whether with what these ask for.
        variables: environment variables while it runs.
        guest_variables: more of them on the emulated board.
    """

    distribution: str
    requires: tuple[str, ...] = ()
    guest: tuple[str, ...] = ()
    guest_dependencies: bool = True
    variables: tuple[tuple[str, str], ...] = ()
    guest_variables: tuple[tuple[str, str], ...] = ()


def module(name: str) -> ModuleType:
    """The file of an engine.

    Raises:
        KeyError: there is no engine of this name.
    """
    if name not in NAMES:
        raise KeyError(name)
    return importlib.import_module(f"benchmarks.engine.engines.{name}")


def engine(name: str) -> Engine:
    """The record of an engine."""
    record: Engine = module(name).ENGINE
    return record


def emulated() -> tuple[str, ...]:
    """Names of those that run on an emulated board; PyTorch's are for this machine."""
    return tuple(name for name in NAMES if name == OURS or engine(name).guest)
