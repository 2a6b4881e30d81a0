"""What a kernel's best sizes depend on, beside the kernel."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gos_fx.targets.target import Target

_KERNELS = Path(__file__).parent.parent
# Modules of gos_fx.kernels that have no say in the code of a kernel. What is not named
# here counts, so that a new schedule is not forgotten.
_ELSEWHERE = frozenset(
    (
        "__init__",
        "build",
        "compile_cache",
        "compile_key",
        "compiler",
        "cross_runtime",
        "emulator",
        "fold",
        "host",
        "host_timing",
        "importer",
        "kernel_work",
        "link",
        "memory",
        "package",
        "packaged",
        "pool",
        "probe",
        "quarantine",
        "remote",
        "remote_client",
        "remote_session",
        "remote_worker",
        "runtime",
        "simplify",
        "stopwatch",
        "tracker",
        "tuning",
        "worker",
    )
)
# What the probe of a machine reads differently from one time to the next, what is kept
# beside the rest, and what decides no size.
_NO_FACTS = frozenset(
    ("cores", "clock_hz", "dram_bytes_per_s_1", "dram_bytes_per_s_all")
)


@dataclass(frozen=True)
class Setting:
    """A target's machine, how many threads the code uses, and who generates it.

    ``target`` and ``version`` are digests.
    """

    target: str
    threads: int
    version: str

    @staticmethod
    def of(target: Target, threads: int) -> Setting:
        return Setting(target_digest(target), threads, code_version())


def target_digest(target: Target) -> str:
    """Of the name, what LLVM is told, and the machine without cores and rates."""
    machine = {k: v for k, v in asdict(target.machine).items() if k not in _NO_FACTS}
    told = {k: v for k, v in target.tvm.items() if k != "num-cores"}
    return digest([target.name, told, machine])


def digest(data: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@functools.cache
def code_version() -> str:
    """Digest of the code generator: sizes tuned for another one are not used.

    Comments, docstrings and formatting do not count.
    """
    paths = [
        path
        for path in sorted(_KERNELS.rglob("*.py"))
        if Path(path.relative_to(_KERNELS).parts[0]).stem not in _ELSEWHERE
    ]
    return digest([version("apache-tvm"), sources_digest(paths)])


def sources_digest(paths: Iterable[Path]) -> str:
    """Of what Python sources say; of other files, their bytes."""
    return digest([(path.name, _meaning(path)) for path in paths])


def _meaning(path: Path) -> str:
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            del body[0]
    return ast.dump(tree)


def _is_docstring(statement: Any) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
