"""The emulator as a source: real ARM code, counted under qemu, timed by constants.

It needs no board. What it does not see: instruction cache misses, page faults, the
kernel's time, throttling.
"""

from __future__ import annotations

from gos_fx.emulator import tools
from gos_fx.emulator.sysroot import emulation_of
from gos_fx.emulator.timing import Clock
from gos_fx.kernels import emulator
from gos_fx.kernels.kernel_work import KernelWork
from gos_fx.kernels.package import Package
from gos_fx.latency.measured import KernelTime, MeasuredSource, PackageTiming
from gos_fx.latency.model import Estimate, total
from gos_fx.targets.target import Target


class EmulatorSource(MeasuredSource):
    """Latency of compiled code on an emulated target.

    Raises:
        EmulatorUnavailable: the target has no emulation, or qemu or LLVM is missing;
            says what to install.
    """

    name = "emulator"

    def __init__(self, target: Target, threads: int | None = None) -> None:
        super().__init__(target, threads)
        self._emulation = emulation_of(target)
        tools.find_qemu()  # what is missing is said at once
        Clock(target)

    def measure(self, package: Package, *, alone: bool = False) -> PackageTiming:
        """Count a package; the error is that of the target's fit.

        Raises:
            EmulatorUnavailable, ProgramFailed, PackageError: see
                :func:`gos_fx.kernels.emulator.measure`.
        """
        works = emulator.measure(package, threads=self.threads, alone=alone)
        kernels = tuple(
            KernelTime(work.function, self.latency(work), _counters(work))
            for work in works
        )
        each = (kernel.latency for kernel in kernels)
        return PackageTiming(total(each, self.name, self.target.name), kernels)

    def latency(self, work: KernelWork) -> Estimate:
        """Seconds of one kernel: its serial part on one core, then the parallel one.

        Cache lines count at the rate of the cores that are busy.
        """
        clock = self.target.machine.clock_hz
        one = self._emulation.fit(1)
        busy = self._emulation.fit(self.threads) if work.parallel else one
        issue = one.issue * work.serial + busy.issue * work.parallel
        seconds = issue / clock + busy.line_s * work.lines
        return Estimate(
            seconds,
            busy.error * seconds,
            self.name,
            self.target.name,
            busy.noise * seconds,
        )


def _counters(work: KernelWork) -> dict[str, float]:
    """``cycles`` are those of the busiest core."""
    return {
        "instructions": work.instructions,
        "cycles": work.serial + work.parallel,
        "l1d_misses": work.l1d_misses,
        "lines": work.lines,
    }
