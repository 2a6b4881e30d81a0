"""Compiled code on this machine, in this process."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from gos_fx.errors import PackageError
from gos_fx.kernels.package import Package

# What TVM's generated code assumes of every tensor's address.
ALIGNMENT = 64
_BIG_CORES = 1  # tvm's AffinityMode
_ONE_CORE_PER_THREAD = -2  # tvm's AffinityMode kSpecifyOneCorePerThread


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, and half the distance between the quartiles."""

    median: float
    spread: float
    samples: tuple[float, ...]

    @property
    def relative_spread(self) -> float:
        """The spread as a part of the median."""
        return self.spread / self.median if self.median else 0.0


class HostModule:
    """A ``model.so`` for this machine, called with torch tensors.

    Args:
        library: path of the library.
        threads: of TVM's pool, which all modules of the process share; it is set again
            before a call where another module changed it.
    """

    _threads_now: int | None = None

    def __init__(self, library: Path, threads: int) -> None:
        os.environ.setdefault("TVM_BIND_THREADS", "1")
        import tvm
        from tvm.runtime.vm import VirtualMachine

        self.library, self.threads = library, threads
        try:
            self._machine = VirtualMachine(
                tvm.runtime.load_module(str(library)), tvm.cpu()
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise PackageError(
                "the library does not load on this machine",
                where=str(library),
                do=f"It must be built for {platform.machine()}.",
            ) from error
        self._main = self._machine["main"]
        self._import = tvm.runtime.from_dlpack

    @classmethod
    def from_package(cls, package: Package, threads: int | None = None) -> HostModule:
        """The module of a package for this machine.

        Raises:
            PackageError: it holds code for another machine.
        """
        wanted = package.manifest["machine"]
        if wanted != platform.machine():
            raise PackageError(
                f"code for {wanted} does not run on {platform.machine()}",
                where=str(package.directory),
                do="Run it on the board, or emulate it.",
            )
        return cls(package.library, threads or package.threads)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The network's outputs; dtypes and shapes must be those it was built for."""
        self._use_threads()
        result: Any = self._main(*[self._import(_aligned(x)) for x in inputs])
        results = [result] if hasattr(result, "__dlpack__") else list(result)
        return tuple(from_dlpack(one) for one in results)

    def _use_threads(self) -> None:
        if HostModule._threads_now != self.threads:
            import tvm

            configure = tvm.get_global_func("runtime.config_threadpool")
            # A core for each: else one that waits shares that of the one it waits for.
            # This thread, and with it torch's later ones, must not stay on one core.
            mine = os.sched_getaffinity(0)
            cores = sorted(mine)
            if self.threads > len(cores):
                configure(_BIG_CORES, self.threads)
            else:
                names = [str(core) for core in cores[: self.threads]]
                configure(_ONE_CORE_PER_THREAD, self.threads, names)
            os.sched_setaffinity(0, mine)
            HostModule._threads_now = self.threads


def _aligned(x: Tensor) -> Tensor:
    x = x.detach().contiguous()
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()


def time_interleaved(
    modules: Sequence[Any], inputs: Sequence[Tensor], repeats: int = 30
) -> list[Timing]:
    """Time callables against each other, one call of each in turn.

    What disturbs the machine then disturbs all of them alike.

    Args:
        modules: called with ``*inputs``, without gradients.
        inputs: the same for all of them.
        repeats: calls of each after one to warm up.
    """
    samples: list[list[float]] = [[] for _ in modules]
    with torch.no_grad():
        for module in modules:
            module(*inputs)
        for _ in range(repeats):
            for module, seconds in zip(modules, samples):
                start = time.perf_counter()
                module(*inputs)
                seconds.append(time.perf_counter() - start)
    return [timing_of(seconds) for seconds in samples]


def timing_of(seconds: Sequence[float]) -> Timing:
    """Median and spread of the seconds of some calls."""
    spread = 0.0
    if len(seconds) > 1:
        low, _, high = statistics.quantiles(seconds, n=4)
        spread = (high - low) / 2
    return Timing(statistics.median(seconds), spread, tuple(seconds))
