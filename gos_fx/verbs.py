"""The commands of ``gos-fx``: each turns parsed arguments into plain data.

Heavy imports stay in the functions that need them.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gos_fx import tables
from gos_fx.errors import (
    BadExampleInputs,
    BadOption,
    MissingExampleInputs,
    PackageError,
)

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from gos_fx.compiled import CompiledModel

OK, FAILED, INTERRUPTED = 0, 1, 130
# Largest difference to PyTorch that `run --check` passes, as a share of the outputs.
TOLERANCE = 1e-4

Found = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a command found, how it is shown, and the exit status."""

    found: Found
    show: Callable[[Console, Found], None]
    status: int = OK


def targets(arguments: argparse.Namespace) -> Outcome:
    """What can be optimized and compiled for."""
    from gos_fx.targets import target

    rows = [
        {
            "name": found.name,
            "description": found.description,
            "threads": found.threads,
            "memory_bytes": found.model_memory_bytes,
            "emulator": found.qemu_cpu is not None,
        }
        for found in map(target.get, target.names())
    ]
    return Outcome({"targets": rows}, tables.show_targets)


def profile(arguments: argparse.Namespace) -> Outcome:
    """Latency, parameters and memory of each operator."""
    from gos_fx import api
    from gos_fx.arguments import load_inputs, load_model

    with names_input_option():
        found = api.profile(
            load_model(arguments.model, arguments.weights),
            arguments.target,
            example_inputs=load_inputs(arguments.input),
            source=arguments.source,
            threads=arguments.threads,
        )
    return Outcome(found.to_json(), tables.show_profile)


def optimize(arguments: argparse.Namespace) -> Outcome:
    """Replace operators by faster ones."""
    from gos_fx import api
    from gos_fx.arguments import load_constraints, load_data, load_inputs, load_model

    data = {} if arguments.data is None else load_data(arguments.data)
    with names_input_option(), _progress() as progress:
        small: Any = api.optimize(
            load_model(arguments.model, arguments.weights),
            arguments.target,
            example_inputs=load_inputs(arguments.input),
            epsilon=arguments.epsilon,
            constraints=load_constraints(arguments.constraint),
            only=arguments.only or None,
            exclude=arguments.exclude or None,
            max_replacements=arguments.max_replacements,
            iterations=arguments.iterations,
            population=arguments.population,
            objectives=tuple(arguments.objectives.split(",")),
            latency_source=arguments.latency_source,
            time_budget=arguments.time_budget,
            threads=arguments.threads,
            run_dir=arguments.run_dir,
            progress=progress,
            seed=arguments.seed,
            **data,
        )
    found = small.gos.to_json() | {"run_dir": arguments.run_dir}
    status = INTERRUPTED if found.get("interrupted") else OK
    return Outcome(found, tables.show_result, status)


def compile(arguments: argparse.Namespace) -> Outcome:
    """Machine code as a package that runs on the board."""
    from gos_fx import api
    from gos_fx.arguments import load_inputs, load_model

    with names_input_option(), _status(f"compiling for {arguments.target}"):
        compiled = api.compile(
            load_model(arguments.model, arguments.weights),
            arguments.target,
            example_inputs=load_inputs(arguments.input),
            threads=arguments.threads,
        ).save(arguments.output)
    package = compiled.package
    found = {
        "package": str(package.directory),
        "target": package.target.name,
        "machine": package.manifest["machine"],
        "threads": package.threads,
        "seconds": compiled.seconds,
        "library_bytes": package.library.stat().st_size,
        "inputs": [_spec(s) for s in compiled.inputs],
        "outputs": [_spec(s) for s in compiled.outputs],
    }
    return Outcome(found, tables.show_package)


def run(arguments: argparse.Namespace) -> Outcome:
    """Run a package here or under qemu, and compare it with PyTorch."""
    import numpy as np
    import torch

    from gos_fx.arguments import load_model
    from gos_fx.passes.trace import run_once

    compiled = _load_package(arguments.package)
    inputs = _package_inputs(compiled, arguments.input)
    started = time.perf_counter()
    with _status(f"running {arguments.package}"), torch.no_grad():
        outputs = compiled(*inputs)
    found: Found = {
        "package": arguments.package,
        "target": compiled.target.name,
        "ran": "here" if compiled.runs_here else "under qemu",
        "seconds": time.perf_counter() - started,
        "inputs": [_spec(s) for s in compiled.inputs],
        "outputs": [
            {**_spec(spec), "largest": _largest(y)}
            for spec, y in zip(compiled.outputs, outputs, strict=True)
        ],
    }
    status = OK
    for path, y in zip(arguments.output, outputs, strict=False):
        try:
            np.save(path, y.numpy())
        except OSError as error:
            raise BadOption(str(error.strerror or error), where=path) from error
    if arguments.check is not None:
        model = load_model(arguments.check, arguments.weights)
        expected = run_once(model, inputs)
        found["difference"] = _difference(outputs, expected)
        found["tolerance"] = TOLERANCE
        found["agrees"] = found["difference"] <= TOLERANCE * max(
            _largest(y) for y in _leaves(expected)
        )
        status = OK if found["agrees"] else FAILED
    return Outcome(found, tables.show_run, status)


def _load_package(directory: str) -> CompiledModel:
    """The package of a directory; a saved run is answered with what to do."""
    from gos_fx.compiled import load_compiled
    from gos_fx.store import RUN

    path = Path(directory)
    if (path / RUN).exists() and not (path / "manifest.json").exists():
        raise PackageError(
            "this is a saved run, not a package",
            where=directory,
            do=f"compile it first: gos-fx compile {directory} --target NAME -o DIR",
        )
    return load_compiled(path)


def _package_inputs(
    compiled: CompiledModel, paths: Sequence[str]
) -> tuple[Tensor, ...]:
    """The files, or normal numbers (zeros for integers) in the right shapes."""
    import torch

    from gos_fx.arguments import load_array

    specs = compiled.inputs
    if paths:
        if len(paths) != len(specs):
            names = ", ".join(f"{s.name} {list(s.shape)}" for s in specs)
            raise BadExampleInputs(
                f"{len(paths)} inputs, the package takes {len(specs)}",
                where="--input",
                do=f"give one file.npy for each of {names}",
            )
        return tuple(load_array(path) for path in paths)
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(s.shape, generator=generator, dtype=s.torch_dtype)
        if s.torch_dtype.is_floating_point
        else torch.zeros(s.shape, dtype=s.torch_dtype)
        for s in specs
    )


def _spec(spec: Any) -> Found:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype}


def _leaves(value: Any) -> list[Tensor]:
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    return [x for x in tree_leaves(value) if isinstance(x, Tensor)]


def _largest(x: Tensor) -> float:
    return float(x.double().abs().max()) if x.numel() else 0.0


def _difference(outputs: Sequence[Tensor], expected: Any) -> float:
    leaves = _leaves(expected)
    have = [tuple(y.shape) for y in outputs]
    if have != [tuple(y.shape) for y in leaves]:
        raise BadExampleInputs(
            f"the package gives {have}, the model {[tuple(y.shape) for y in leaves]}",
            where="--check",
            do="name the model that the package was compiled from",
        )
    return max(
        _largest(y.double() - z.double()) for y, z in zip(outputs, leaves, strict=True)
    )


@contextlib.contextmanager
def names_input_option() -> Iterator[None]:
    """The message of the Python interface, in words of the command line."""
    try:
        yield
    except MissingExampleInputs as error:
        raise MissingExampleInputs(
            error.what,
            where="MODEL",
            do="give the shape of one sample: --input 1,3,224,224",
        ) from error


@contextlib.contextmanager
def _status(text: str) -> Iterator[Any]:
    """A line on stderr while something runs, where someone watches."""
    if not sys.stderr.isatty():
        yield None
        return
    with tables.console(sys.stderr).status(text) as status:
        yield status


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[Found], None] | None]:
    with _status("measuring the original") as status:
        if status is None:
            yield None
            return

        def report(record: Found) -> None:
            names = record["operators"]
            more = f" and {len(names) - 1} like it" if len(names) > 1 else ""
            best = tables.milliseconds(record["best_latency_s"])
            original = tables.milliseconds(record["original_latency_s"])
            status.update(
                f"{names[0]}{more}: generation {record['generation']}, "
                f"{best} ms, was {original} ms"
            )

        yield report
