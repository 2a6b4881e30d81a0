"""Engines' aarch64 wheels on an emulated board: counted, not timed.

What is counted is one inference after another one, by the thread that asks for it and
those that help it; see :mod:`gos_fx.emulator`. Counts are kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from benchmarks.engine import case, marked, model_files
from benchmarks.engine.engine import OURS, engine, module
from benchmarks.engine.environment import environment
from benchmarks.engine.guest import guest
from benchmarks.engine.report import Result
from benchmarks.engine.unavailable import FAILURES, say
from gos_fx import config
from gos_fx.emulator import qemu
from gos_fx.emulator.counts import merge
from gos_fx.emulator.plugin import SOURCE as PLUGIN
from gos_fx.emulator.sysroot import emulation_of
from gos_fx.emulator.timing import Clock, Work
from gos_fx.kernels.cross_runtime import TRIPLE
from gos_fx.targets.target import Target

# Raised whenever cached counts would come out differently.
_FORMAT = 1


def measure(
    names: Sequence[str], network: str, threads: int, target: Target
) -> Iterator[Result]:
    """Each engine's time of a network; what cannot be had is said and left out."""
    for name in names:
        try:
            if name == OURS:
                yield _ours(network, threads, target)
            elif engine(name).guest:
                yield _theirs(name, network, threads, target)
            else:
                raise ValueError("the benchmark has it for this machine alone")
        except FAILURES as error:
            say(name, network, target.name, threads, error)


def _ours(network: str, threads: int, target: Target) -> Result:
    import gos_fx
    from gos_fx.latency.emulator import EmulatorSource

    x = case.example(network)
    compiled = gos_fx.compile(
        case.network(network), target=target, example_inputs=x, threads=threads
    )
    found = EmulatorSource(target, threads).measure(compiled.package).total
    (y,) = compiled(x)
    expected = np.load(model_files.reference(network) / "expected.npy")
    error = float((y - torch.from_numpy(expected)).abs().max())
    version = environment(OURS).version
    return Result(
        network, target.name, threads, OURS, version, found.seconds, 0.0, error
    )


def _theirs(name: str, network: str, threads: int, target: Target) -> Result:
    found = environment(name)
    clock = Clock(target)
    model = model_files.converted(name, network, found)
    path = config.cache_dir() / "engine-counts" / _key(name, model, threads, clock)
    known = _read(path)
    if known is None:
        known = _count(name, network, model, threads, clock)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"work": asdict(known[0]), "error": known[1]}))
        os.replace(partial, path)
    work, error = known
    seconds = clock.latency(work, threads).seconds
    return Result(
        network, target.name, threads, name, found.version, seconds, 0.0, error
    )


def _count(
    name: str, network: str, model: Path, threads: int, clock: Clock
) -> tuple[Work, float]:
    """The work of an inference, and the largest error of its output."""
    there, reference = guest(name), model_files.reference(network)
    libraries = model_files.libraries(name, there.packages, TRIPLE)
    variables = {**there.variables, **dict(engine(name).guest_variables), **libraries}
    with tempfile.TemporaryDirectory(prefix="engines_") as folder:
        output = Path(folder) / "output.npy"
        arguments = [name, network, model, reference / "input.npy", threads, output]
        recording = qemu.record(
            [str(there.python), "-m", marked.__name__, *map(str, arguments)],
            clock.target,
            "marks",
            guest={**variables, "OMP_NUM_THREADS": str(threads)},
        ).recording
        error = case.max_abs_error(output, reference / "expected.npy")
    (segment,) = (s for s in recording.segments if (s.event, s.number) == ("mark", 2))
    (work,) = clock.work(recording, [merge([segment])])
    return work, error


def _key(name: str, model: Path, threads: int, clock: Clock) -> str:
    """Of all that the counts depend on; the clock of the board is not among it."""
    emulation = emulation_of(clock.target)
    sources = (PLUGIN, Path(module(name).__file__ or ""), Path(marked.__file__))
    facts = {
        "format": _FORMAT,
        "model": model.name,
        "guest": engine(name).guest,
        "threads": threads,
        "caches": qemu.cache_options(clock.target.machine),
        "load": clock.target.machine.load_bytes_per_cycle,
        "core": [emulation.qemu_cpu, emulation.midr, emulation.hwcaps],
        "issue": [clock.timer.model, emulation.simd_per_cycle],
        "sources": [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources],
    }
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    return f"{model.name}-{threads}-{digest}.json"


def _read(path: Path) -> tuple[Work, float] | None:
    """Counts of the cache; what is damaged counts as none."""
    try:
        known = json.loads(path.read_text())
        work = {**known["work"], "misses": tuple(known["work"]["misses"])}
        return Work(**work), float(known["error"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
