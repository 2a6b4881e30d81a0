"""Real boards as a source, through TVM's RPC."""

from __future__ import annotations

from gos_fx import config
from gos_fx.errors import BoardUnavailable
from gos_fx.kernels.host import Timing
from gos_fx.kernels.package import Package
from gos_fx.kernels.remote import Boards, BoardState, Limits
from gos_fx.latency.measured import (
    RUNTIME,
    KernelTime,
    MeasuredSource,
    PackageTiming,
)
from gos_fx.latency.model import Estimate
from gos_fx.targets.target import BoardAddress, Target, board_address

# What a later session may differ by, as a part of the seconds: temperature, placement
# in memory. An assumption, that of the host's clock.
DRIFT = 0.01


class BoardSource(MeasuredSource):
    """Compiled code timed on boards: medians of repeated calls.

    The noise is half the distance between the quartiles of the repeats; the error is
    that and ``DRIFT``. The slowest repeats are in neither: a single one that the
    board's kernel interrupted would make the whole worthless. What a board differs by
    from others of its kind is not in them.

    Args:
        target: as ``on_board`` gives it, or any if the environment names the tracker.
        limits: of time and number.

    Raises:
        BoardUnavailable: nothing says where the board is.
        BadOption: the environment's address is not ``host:port``.
    """

    name = "board"

    def __init__(
        self,
        target: Target,
        threads: int | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(target, threads)
        self.boards = Boards(_address(target), limits)
        self.state: BoardState | None = None

    def measure(self, package: Package, *, alone: bool = False) -> PackageTiming:
        """Time a package; ``state`` then says what the board showed of itself.

        Raises:
            BoardUnavailable, UnsteadyMeasurement, PackageError: see
                :meth:`gos_fx.kernels.remote.Boards.measure`.
        """
        timing = self.boards.measure(package, self.threads, alone=alone)
        self.state = timing.state
        total = self._estimate(timing.total)
        kernels = [KernelTime(name, self._estimate(t)) for name, t in timing.kernels]
        # Kernels are timed in other calls than the whole: their sum may be larger.
        rest = max(0.0, total.seconds - sum(k.latency.seconds for k in kernels))
        runtime = Estimate(rest, total.error, self.name, self.target.name, total.spread)
        return PackageTiming(total, (*kernels, KernelTime(RUNTIME, runtime)))

    def _estimate(self, timing: Timing) -> Estimate:
        return Estimate(
            timing.median,
            timing.spread + DRIFT * timing.median,
            self.name,
            self.target.name,
            timing.spread,
        )


def _address(target: Target) -> BoardAddress:
    if target.board is not None:
        return target.board
    tracker, key = config.tracker(), config.tracker_key()
    if tracker is None or key is None:
        raise BoardUnavailable(
            f"nothing says where a board {target.name} is",
            where="latency source board",
            do="Use target.on_board(tracker=, key=), or set TVM_TRACKER_HOST, "
            "TVM_TRACKER_PORT and TVM_TRACKER_KEY.",
        )
    return board_address(tracker, key)
