"""What a compiling process does; ``gos_fx.kernels.compiler`` starts it.

Reads ``job.json`` and, for a network, ``model.pt2``, and writes ``model.so`` and
``result.json``. The stage it is in stands in ``stage``, so that whoever started it can
say where it died.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gos_fx.ir.plain import graph_from_json, graph_to_json
from gos_fx.kernels.compile_key import read_sources, sources
from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.kernels.tuning.tuned import Tuned, using
from gos_fx.targets.record import target_from_json
from gos_fx.targets.target import Machine

# TVM's ARM back end knows these; LLVM prints them.
TIR_FILE, ASSEMBLY_FILE = "model.tir", "model.s"


def main(directory: Path) -> None:
    """Compile the job in ``directory``.

    ``sources`` of the result is the digest of our sources if they are still those that
    this process was started with.
    """
    started = time.perf_counter()
    _enter(directory, "start")
    job = json.loads((directory / "job.json").read_text())
    target = target_from_json(job["target"])
    _enter(directory, "import tvm")
    from gos_fx.kernels import link, memory, to_relax
    from gos_fx.kernels.emit import KernelCall

    calls: list[KernelCall] = []
    sizes = {key: Sizes.from_json(data) for key, data in job["tuned"].items()}
    with using(Tuned(sizes)) as tuned:
        module = _import(directory, job, target.machine, calls)
    if job.get("only") == "kernels":
        _write(directory, {"asked": [graph_to_json(graph) for graph in tuned.asked]})
        return
    _enter(directory, "compile")
    unscheduled: list[str] = []
    planned: list[Any] = []
    executable = to_relax.compile_module(module, target, unscheduled, planned)
    if job["listings"]:
        _enter(directory, "list")
        (directory / TIR_FILE).write_text(module.script())
        (directory / ASSEMBLY_FILE).write_text(_listing(executable, "asm"))
    del module  # with the weights as they were before they were packed
    _enter(directory, "link")
    executable.export_library(
        str(directory / "model.so"),
        fcompile=link.shared_library_linker(target.link_triple),
    )
    result = {
        "seconds": time.perf_counter() - started,
        "unscheduled": unscheduled,
        "kernels": [asdict(call) for call in to_relax.executed(planned[-1], calls)],
        "others": sorted(
            set(to_relax.called_functions(planned[-1])) - {c.function for c in calls}
        ),
        "tuned": tuned.used,
        "sources": sources() if sources() == read_sources() else "",
    }
    if "graph" not in job:
        code = _listing(executable, "ll")
        cores = target.machine.cores
        result["memory"] = memory.network_memory(planned[-1], code, cores)
    _write(directory, result)


def _write(directory: Path, result: dict[str, Any]) -> None:
    (directory / "result.json").write_text(json.dumps(result))


def _import(directory: Path, job: Any, machine: Machine, calls: list[Any]) -> Any:
    import torch

    import gos_fx.instructions
    import gos_fx.ir.opaque  # noqa: F401  (registers the custom operator)
    from gos_fx.kernels import to_relax

    if "graph" in job:
        _enter(directory, "import")
        return to_relax.import_graph(graph_from_json(job["graph"]), machine, calls)
    _enter(directory, "load")
    program = torch.export.load(directory / "model.pt2")
    _enter(directory, "import")
    from gos_fx.kernels.importer.program import import_program

    return import_program(program, machine, calls)


def _enter(directory: Path, stage: str) -> None:
    (directory / "stage").write_text(stage)


def _listing(executable: Any, form: str) -> str:
    return "\n".join(
        module.inspect_source(form)
        for module in executable.mod.imports
        if module.kind == "llvm"
    )
