"""Network or operator -> shared library, compiled in a process of its own."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gos_fx.errors import CompileError
from gos_fx.ir.graph import Graph
from gos_fx.ir.plain import graph_from_json, graph_to_json
from gos_fx.kernels import compile_cache
from gos_fx.kernels.compile_key import job_key, network_key, sources
from gos_fx.kernels.compiler import COMPILER
from gos_fx.kernels.tuning.records import snapshot
from gos_fx.kernels.worker import ASSEMBLY_FILE, TIR_FILE
from gos_fx.targets.record import target_to_json
from gos_fx.targets.target import Target


@dataclass(frozen=True)
class BuildResult:
    """What the compiler made.

    Attributes:
        library: the shared library, ``out_dir / "model.so"``.
        seconds: wall-clock seconds of the whole compilation.
        unscheduled: functions TVM made of torch operators that no schedule fits.
        kernels: functions that each inference calls, in order, with their operators;
            torch operators that no rule knows have further functions, ``others``.
        memory: what :func:`gos_fx.kernels.memory.network_memory` found.
        tir: the scheduled code as TVMScript, where ``listings`` was asked for.
        assembly: the machine code as text, where ``listings`` was asked for.
        tuned: keys of the kernels that were compiled with tuned sizes.
        key: of the entry in :mod:`gos_fx.kernels.compile_cache`; "" without one.
        is_cached: the compiler did not run; ``seconds`` are those of a copy.
    """

    library: Path
    seconds: float
    unscheduled: tuple[str, ...] = ()
    kernels: tuple[dict[str, str], ...] = ()
    others: tuple[str, ...] = ()
    memory: dict[str, int] | None = None
    tir: str = ""
    assembly: str = ""
    tuned: tuple[str, ...] = ()
    key: str = ""
    is_cached: bool = False


def build(
    graph_module: torch.nn.Module,
    example_inputs: tuple[Tensor, ...],
    target: Target,
    out_dir: Path,
    threads: int | None = None,
    *,
    listings: bool = False,
    timeout: float | None = None,
) -> BuildResult:
    """Compile a network whose operators are ``torch.ops.gos_fx.operator`` calls.

    Args:
        graph_module: in eval mode; torch operators between ours are compiled too.
        example_inputs: fix the shapes.
        target: decides code, default tiles and linker.
        out_dir: gets ``model.so``; made if it is not there.
        threads: of how many threads the code should make use; all cores by default.
        listings: also give the code as text.
        timeout: seconds after which the compiler is stopped.

    Raises:
        CompileError: the network cannot be exported, or the compiler refused it, died
            or took longer than ``timeout``; the message names the stage.
    """
    facts = {"listings": listings, **_machine(target, threads)}
    key = None if listings else network_key(graph_module, example_inputs, facts)

    def export(job: Path) -> None:
        _export(graph_module, example_inputs, job / "model.pt2")

    return _cached(key, facts, out_dir, timeout, export)


def build_operator(
    graph: Graph,
    target: Target,
    out_dir: Path,
    threads: int | None = None,
    *,
    listings: bool = False,
    timeout: float | None = None,
) -> BuildResult:
    """Compile a concrete graph alone: its maps are the inputs, weights are random.

    Raises:
        CompileError: the compiler refused it, died or took longer than ``timeout``
            seconds; the message names the stage.
    """
    facts = {"listings": listings, "graph": graph_to_json(graph)}
    facts |= _machine(target, threads)
    return _cached(None if listings else job_key(facts), facts, out_dir, timeout)


def kernels_of(
    graph_module: torch.nn.Module,
    example_inputs: tuple[Tensor, ...],
    target: Target,
    threads: int | None = None,
    timeout: float | None = None,
) -> tuple[Graph, ...]:
    """The kernels with a tile that :func:`build` would make of a network, as graphs.

    In the order in which they are built; equal ones as often as they are.

    Raises:
        CompileError: as ``build``.
    """
    with _folder() as folder:
        job = Path(folder)
        _export(graph_module, example_inputs, job / "model.pt2")
        facts = {"listings": False, "only": "kernels", **_machine(target, threads)}
        result = _result(job, facts, timeout)
    return tuple(map(graph_from_json, result["asked"]))


def _folder() -> tempfile.TemporaryDirectory[str]:
    # A compiler that was stopped may still write its last file.
    return tempfile.TemporaryDirectory(
        prefix="gos_fx_build_", ignore_cleanup_errors=True
    )


def _machine(target: Target, threads: int | None) -> dict[str, Any]:
    """What a job says of where its code runs, and of what was tuned for that."""
    description = target_to_json(target)
    if threads is not None:
        description["machine"]["cores"] = threads
    sizes = snapshot(target, threads or target.threads)
    tuned = {key: found.to_json() for key, found in sizes.items()}
    return {"target": description, "tuned": tuned}


def _result(job: Path, facts: dict[str, Any], timeout: float | None) -> Any:
    (job / "job.json").write_text(json.dumps(facts))
    _run(job, timeout)
    return json.loads((job / "result.json").read_text())


def _cached(
    key: str | None,
    facts: dict[str, Any],
    out_dir: Path,
    timeout: float | None,
    prepare: Callable[[Path], None] = lambda job: None,
) -> BuildResult:
    """What the cache has, or else the compiler makes."""
    started = time.perf_counter()
    out_dir.mkdir(parents=True, exist_ok=True)
    library = out_dir / "model.so"
    if key is not None:
        found = compile_cache.fetch(key, library)
        if found is not None:
            found["seconds"] = time.perf_counter() - started
            return _built(library, found, key=key, is_cached=True)
    with _folder() as folder:
        job = Path(folder)
        prepare(job)
        result = _result(job, facts, timeout)
        shutil.copyfile(job / "model.so", library)
        texts = {}
        if facts["listings"]:
            texts["tir"] = (job / TIR_FILE).read_text()
            texts["assembly"] = (job / ASSEMBLY_FILE).read_text()
    # Not the code of sources that were edited since the key was made.
    if key is not None and result.pop("sources") == sources():
        compile_cache.store(key, library, result)
    return _built(library, result, key=key or "", **texts)


def _built(library: Path, result: dict[str, Any], **rest: Any) -> BuildResult:
    return BuildResult(
        library=library,
        seconds=result["seconds"],
        unscheduled=tuple(result["unscheduled"]),
        kernels=tuple(result["kernels"]),
        others=tuple(result["others"]),
        memory=result.get("memory"),
        tuned=tuple(result["tuned"]),
        **rest,
    )


def _export(module: torch.nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, inputs)
            torch.export.save(program, path)
    except Exception as error:
        raise CompileError(
            f"torch.export refuses the network: {last_line(str(error))}",
            where="stage export",
            do="Every operator must be traceable with the shapes of example_inputs.",
        ) from error


def _run(job: Path, timeout: float | None) -> None:
    try:
        status = COMPILER.run(job, timeout)
    except CompileError as error:
        raise CompileError(error.what, where=_stage(job)) from error
    if status == 0 and (job / "result.json").exists():
        return
    if status < 0:
        raise CompileError(
            f"the compiler died of {signal.Signals(-status).name}",
            where=_stage(job),
            do="If memory was short (SIGKILL), compile with less running beside it.",
        )
    said = (job / "stderr").read_text() if (job / "stderr").exists() else ""
    raise CompileError(last_line(said) or "no message", where=_stage(job))


def _stage(job: Path) -> str:
    path = job / "stage"
    return f"stage {path.read_text() if path.exists() else 'start'}"


def last_line(text: str) -> str:
    """The last line that is not empty nor a warning of TVM: messages embed programs."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if ": Warning: " not in line]
    return (said or lines or [""])[-1]
