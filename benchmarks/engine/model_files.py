"""Networks as files of the engines, converted once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import tempfile
from importlib import metadata
from pathlib import Path

from benchmarks import torchvision_models
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
    """Of all that weights and input depend on."""
    sources = [Path(m.__file__ or "").read_text() for m in (case, torchvision_models)]
    versions = [metadata.version(package) for package in ("torch", "torchvision")]
    facts = json.dumps([network, *sources, *versions, *more])
    return hashlib.sha256(facts.encode()).hexdigest()[:12]
