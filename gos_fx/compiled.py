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

from gos_fx.errors import BadExampleInputs, CompileError, PackageError
from gos_fx.kernels import compile_cache, emulator
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.package import Package, TensorSpec, load_package, save_package
from gos_fx.kernels.packaged import package_network
from gos_fx.passes.nested import largest_difference, tensors
from gos_fx.passes.trace import TOLERANCE, run_once
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
    def memory_bytes(self) -> int:
        """Weights as packed, live activations and scratch memory at their peak: what
        the compiled code allocates in all.

        Raises:
            PackageError: the package does not say, or a size depends on the data.
        """
        memory = self.package.manifest.get("memory")
        if memory is None:
            raise PackageError(
                "it does not say what memory it takes",
                where=str(self.package.directory),
                do="compile it again; where sizes depend on the data, none is known",
            )
        return int(memory["peak_bytes"])

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
            memory=self.package.manifest.get("memory"),
            kernels=self.package.manifest.get("kernels", ()),
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

    What was compiled before comes from the cache. Code for this machine is compared
    with the network itself, once for each entry of the cache.

    Raises:
        CompileError: the stage and the compiler's last words, or that code for this
            machine does not give the network's outputs.
    """
    outputs = tensors(run_once(network, example_inputs))
    folder = _Folder()
    package, result = package_network(
        network, example_inputs, outputs, target, folder.path, threads
    )
    compiled = CompiledModel(package, result.seconds, folder)
    is_known = bool(result.key) and compile_cache.is_checked(result.key, result.library)
    if compiled.runs_here and not is_known:
        _compare(compiled, tensors(example_inputs), outputs)
        if result.key:
            compile_cache.note_checked(result.key, result.library)
    return compiled


def _compare(
    compiled: CompiledModel, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    """Raises CompileError where the code does not compute what the network does."""
    difference = largest_difference(compiled(*inputs), list(outputs))
    if difference > TOLERANCE:
        raise CompileError(
            f"the code's outputs differ from PyTorch's by {difference:.1g}",
            where="stage check",
            do="report the network: a wrong result is a bug of the compiler",
        )


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
