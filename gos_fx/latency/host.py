"""Wall-clock time on this machine as a source."""

from __future__ import annotations

from gos_fx.errors import BadOption
from gos_fx.kernels.host import Timing
from gos_fx.kernels.host_timing import Repeats, time_packages
from gos_fx.kernels.package import Package
from gos_fx.latency.measured import KernelTime, MeasuredSource, PackageTiming
from gos_fx.latency.model import Estimate
from gos_fx.targets.target import Target

# Two medians of the same code, taken minutes apart on a quiet machine, differ by about
# so much: frequency and placement in memory change (an assumption).
DRIFT = 0.01


class HostSource(MeasuredSource):
    """Compiled code timed here: pinned threads, medians of many calls.

    The error is the spread of the calls and what a later repeat may differ by. One
    operator alone finds its inputs in the caches and its weights in memory.

    Raises:
        BadOption: the target is not this machine.
    """

    name = "host"

    def __init__(
        self,
        target: Target,
        threads: int | None = None,
        repeats: Repeats | None = None,
    ) -> None:
        if target.link_triple is not None:
            raise BadOption(
                f"{target.name} is not this machine",
                where="latency source host",
                do='Use "emulator" or "board", or the target "host".',
            )
        super().__init__(target, threads)
        self.repeats = repeats or Repeats()

    def measure(self, package: Package, *, alone: bool = False) -> PackageTiming:
        """Time a package.

        Raises:
            UnsteadyMeasurement: what else runs here disturbs it too much.
            PackageError, BadOption: see
                :func:`gos_fx.kernels.host_timing.time_packages`.
        """
        machine = self.target.machine
        last = machine.l3_bytes or machine.l2_bytes
        (timing,) = time_packages(
            [package], self.threads, self.repeats, evict_bytes=last if alone else 0
        )
        kernels = tuple(
            KernelTime(function, self._estimate(seconds))
            for function, seconds in timing.kernels
        )
        return PackageTiming(self._estimate(timing.total), kernels)

    def _estimate(self, timing: Timing) -> Estimate:
        error = timing.spread + DRIFT * timing.median
        return Estimate(timing.median, error, self.name, self.target.name)
