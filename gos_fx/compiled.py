"""A network as machine code: run it here or emulated, or take it to the board."""

from __future__ import annotations

import platform
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from gos_fx.errors import BadExampleInputs
from gos_fx.kernels import emulator
from gos_fx.kernels.build import build
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.package import Package, TensorSpec, load_package, save_package
from gos_fx.passes.trace import run_once
from gos_fx.targets.target import Target


@dataclass(frozen=True)
class CompiledModel:
    """Made by :func:`gos_fx.compile` or read back by :func:`gos_fx.load`.

    ``seconds`` is what the compiler took, 0 for a loaded package.
    """

    package: Package
    seconds: float = 0.0
    _folder: Any = None  # keeps the temporary directory alive

    @property
    def target(self) -> Target:
        return self.package.target

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.package.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.package.outputs

    @property
    def runs_here(self) -> bool:
        """Whether the code is for this machine's architecture."""
        return bool(self.package.manifest["machine"] == platform.machine())

    @cached_property
    def host_module(self) -> HostModule:
        """The code loaded into this process.

        Raises:
            PackageError: it is code for another machine.
        """
        return HostModule.from_package(self.package)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, by the code itself: here, or under qemu-aarch64.

        Raises:
            BadExampleInputs: a tensor of another shape or dtype than compiled for.
            EmulatorUnavailable: qemu or its libraries are not to be had.
            PackageError: the program failed.
        """
        self._check(inputs)
        if self.runs_here:
            return self.host_module(*inputs)
        arrays = [x.detach().cpu().numpy() for x in inputs]
        outputs = emulator.run(self.package, arrays)
        return tuple(torch.from_numpy(np.ascontiguousarray(y)) for y in outputs)

    def save(self, directory: str | Path) -> CompiledModel:
        """Write ``model.so``, ``manifest.json``, ``run.py`` and ``driver.cpp``.

        Raises:
            PackageError: the directory cannot be written.
        """
        saved = save_package(
            Path(directory),
            self.package.library,
            self.target,
            self.inputs,
            self.outputs,
            self.package.threads,
        )
        return CompiledModel(saved, self.seconds)

    def _check(self, inputs: Sequence[Tensor]) -> None:
        found = [TensorSpec.of("", x) for x in inputs]
        have = [(spec.shape, spec.dtype) for spec in found]
        want = [(spec.shape, spec.dtype) for spec in self.inputs]
        if have != want:
            raise BadExampleInputs(
                f"inputs {have}, compiled for {want}",
                where="compiled model",
                do="compile with example_inputs of that shape",
            )


def compile_network(
    network: fx.GraphModule,
    example_inputs: tuple[Any, ...],
    target: Target,
    threads: int | None = None,
) -> CompiledModel:
    """Compile a network that :func:`gos_fx.passes.make_opaque.make_opaque` gave.

    Raises:
        CompileError: the stage and the compiler's last words.
    """
    tensors = tuple(x for x in example_inputs if isinstance(x, Tensor))
    names = [n.name for n in network.graph.nodes if n.op == "placeholder"]
    outputs = _tensors(run_once(network, example_inputs))
    folder = _Folder()
    path = folder.path
    result = build(network, example_inputs, target, path, threads)
    package = save_package(
        path,
        result.library,
        target,
        [TensorSpec.of(n, x) for n, x in zip(names, tensors, strict=False)],
        [TensorSpec.of(f"output{i}", y) for i, y in enumerate(outputs)],
        threads or target.threads,
    )
    return CompiledModel(package, result.seconds, folder)


def load_compiled(directory: Path) -> CompiledModel:
    """A saved package, every file compared with its hash.

    Raises:
        PackageError: what is wrong with it.
    """
    return CompiledModel(load_package(directory))


class _Folder:
    """A temporary directory that goes when nobody refers to it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="gos_fx_package_"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [t for item in items for t in _tensors(item)]
