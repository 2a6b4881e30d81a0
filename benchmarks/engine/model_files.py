"""Networks as files of the engines, converted once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path

from benchmarks.engine import case, engine, executorch_library
from benchmarks.engine.environment import Environment, variables
from benchmarks.engine.processes import run
from gos_fx.emulator.cache import cached_directory


def reference(network: str) -> Path:
    """Directory with ``input.npy`` and ``expected.npy`` of a network."""
    name = f"engine-case-{network}-{_digest(network)}"
    return cached_directory(name, lambda folder: case.write(network, folder))


def converted(name: str, network: str, found: Environment) -> Path:
    """Directory with an engine's files of a network; empty if it takes torch's.

    Raises:
        EngineUnavailable: the engine does not take the network.
    """
    source = engine.module(name)
    if not hasattr(source, "convert"):
        return Path(tempfile.gettempdir())
    text = Path(source.__file__ or "").read_text()
    digest = _digest(network, found.version, text)

    def make(folder: Path) -> None:
        arguments = ["-m", "benchmarks.engine.convert", name, network, str(folder)]
        run([str(found.python), *arguments], environment=variables({}))

    return cached_directory(f"engine-model-{name}-{network}-{digest}", make)


def libraries(name: str, packages: Path, triple: str | None) -> dict[str, str]:
    """Variables that say where what we compile for an engine is.

    Args:
        packages: directory in which the engine is installed.
        triple: of the machine, None for this one.

    Raises:
        CompileError: the compiler failed.
    """
    if name != "executorch":
        return {}
    return executorch_library.variables(packages, triple)


def _digest(network: str, *more: str) -> str:
    """Of the network's weights and input, and of what else counts."""
    facts = json.dumps([network, _weights(network), *more])
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


@cache
def _weights(network: str) -> str:
    found = hashlib.sha256(case.example(network).numpy())
    for name, tensor in sorted(case.network(network).state_dict().items()):
        found.update(name.encode())
        found.update(tensor.contiguous().numpy())
    versions = [metadata.version(package) for package in ("torch", "torchvision")]
    return "-".join([*versions, found.hexdigest()])
