"""The compiling subprocess: ``python -m gos_fx.kernels.worker JOB_DIRECTORY``.

Reads ``job.json`` and ``model.pt2`` and writes ``model.so`` and ``result.json``. The
stage it is in stands in ``stage``, so that whoever started it can say where it died.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from gos_fx.targets.record import target_from_json

# TVM's ARM back end knows these; LLVM prints them.
TIR_FILE, ASSEMBLY_FILE = "model.tir", "model.s"


def main(directory: Path) -> None:
    """Compile the job in ``directory``."""
    started = time.perf_counter()
    _enter(directory, "start")
    job = json.loads((directory / "job.json").read_text())
    target = target_from_json(job["target"])
    _enter(directory, "import tvm")
    import torch

    import gos_fx.instructions
    import gos_fx.ir.opaque  # noqa: F401  (registers the custom operator)
    from gos_fx.kernels import link, memory, to_relax

    _enter(directory, "load")
    program = torch.export.load(directory / "model.pt2")
    _enter(directory, "import")
    module = to_relax.import_program(program, target.machine)
    _enter(directory, "compile")
    unscheduled: list[str] = []
    planned: list[Any] = []
    executable = to_relax.compile_module(module, target, unscheduled, planned)
    if job["listings"]:
        _enter(directory, "list")
        (directory / TIR_FILE).write_text(module.script())
        (directory / ASSEMBLY_FILE).write_text(_listing(executable, "asm"))
    _enter(directory, "link")
    executable.export_library(
        str(directory / "model.so"),
        fcompile=link.shared_library_linker(target.link_triple),
    )
    code = _listing(executable, "ll")
    result = {
        "seconds": time.perf_counter() - started,
        "unscheduled": unscheduled,
        "memory": memory.network_memory(planned[-1], code, target.machine.cores),
    }
    (directory / "result.json").write_text(json.dumps(result))


def _enter(directory: Path, stage: str) -> None:
    (directory / "stage").write_text(stage)


def _listing(executable: Any, form: str) -> str:
    return "\n".join(
        module.inspect_source(form)
        for module in executable.mod.imports
        if module.kind == "llvm"
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(Path(sys.argv[1]))
