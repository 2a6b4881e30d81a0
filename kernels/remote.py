"""Packages on real boards, through TVM's RPC: measured, or run.

A session needs a free board from the tracker, takes place in another process, and is
repeated on another board, if there is one, when the board fails.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from gos_fx.emulator.cache import cached_directory
from gos_fx.errors import (
    BoardUnavailable,
    EmulatorUnavailable,
    PackageError,
    UnsteadyMeasurement,
)
from gos_fx.kernels import link
from gos_fx.kernels.host import Timing, timing_of
from gos_fx.kernels.package import Package
from gos_fx.kernels.pool import acquire
from gos_fx.kernels.quarantine import QUARANTINE
from gos_fx.kernels.remote_client import Fault, ask
from gos_fx.kernels.tracker import Server
from gos_fx.targets.target import BoardAddress

_SOURCE = Path(__file__).parent / "probe" / "board.cpp"
_MIN_FLUSH = 4 << 20  # bytes
# A board that did this is not asked again at once: it costs minutes, or cannot change.
_AT_ONCE = ("hung", "disk")
_WHAT = {
    "connect": "does not accept the session",
    "hung": "hung",
    "disk": "cannot store the library",
    "board": "died",
}


@dataclass(frozen=True)
class Limits:
    """How long a board may take, and how often it is asked.

    Attributes:
        connect_s: until a session is open.
        call_s: for one call of the network, or what is quicker.
        session_s: after which the board's server ends a session by itself.
        wait_s: until another user of the boards leaves one free.
        attempts: sessions before a measurement is given up.
        repeats: samples of a measurement.
        spread: half the distance between the quartiles of the samples may be so much
            of their median.
        quarantine_s: how long a board that failed is left alone.
    """

    connect_s: float = 60.0
    call_s: float = 180.0
    session_s: float = 1800.0
    wait_s: float = 600.0
    attempts: int = 4
    repeats: int = 25
    spread: float = 0.1
    quarantine_s: float = 900.0


@dataclass(frozen=True)
class BoardState:
    """What a board showed of itself after a session.

    Attributes:
        server: ``"host:port"`` of its RPC server.
        model: its own name, None where it tells none.
        temperature_c: of the hottest thermal zone, None where there is none.
        clock_hz: current frequency of the first core, None where it is not shown.
    """

    server: str
    model: str | None
    temperature_c: float | None
    clock_hz: float | None


@dataclass(frozen=True)
class BoardTiming:
    """A package measured on a board: the whole, and each kernel in order."""

    total: Timing
    kernels: tuple[tuple[str, Timing], ...]
    state: BoardState


class Boards:
    """The boards behind an address.

    Args:
        address: of a tracker and a key, or of one board's server.
        limits: of time and number.
    """

    def __init__(self, address: BoardAddress, limits: Limits | None = None) -> None:
        self.address, self.limits = address, limits or Limits()

    def measure(
        self, package: Package, threads: int, *, alone: bool = False
    ) -> BoardTiming:
        """Time an inference with random inputs, always the same.

        Args:
            package: built for the boards' architecture.
            threads: of TVM's pool on the board.
            alone: the caches are as in a larger network: inputs in them, weights not.

        Raises:
            BoardUnavailable: no board does it; the message says what each did.
            UnsteadyMeasurement: the samples differ too much in every attempt.
            PackageError: the board's runtime refuses the package.
        """
        with tempfile.TemporaryDirectory(prefix="gos_fx_board_") as folder:
            job = self._job(package, _random_inputs(package), threads, Path(folder))
            job |= {
                "repeats": self.limits.repeats,
                "flush_bytes": _flush_bytes(package) if alone else 0,
            }
            for _ in range(self.limits.attempts):
                server, answer = self._attempts(job)
                total = timing_of(answer["samples"])
                if total.spread <= self.limits.spread * total.median:
                    break
            else:
                raise UnsteadyMeasurement(
                    f"calls differ by {total.relative_spread:.0%} of their median, "
                    f"more than {self.limits.spread:.0%}",
                    where=f"board {server.name}",
                    do="Stop what else runs on it, and cool it.",
                )
        kernels = tuple((name, timing_of(s)) for name, s in answer["kernels"])
        return BoardTiming(total, kernels, BoardState(server.name, **answer["state"]))

    def run(
        self, package: Package, inputs: Sequence[np.ndarray], threads: int
    ) -> tuple[np.ndarray, ...]:
        """The outputs that a board computes.

        Raises:
            BoardUnavailable, PackageError: as :meth:`measure`.
        """
        with tempfile.TemporaryDirectory(prefix="gos_fx_board_") as folder:
            job = self._job(package, inputs, threads, Path(folder))
            paths = [f"{folder}/out{i}.npy" for i in range(len(package.outputs))]
            self._attempts({**job, "outputs": paths})
            return tuple(np.load(path, allow_pickle=False) for path in paths)

    def _job(
        self,
        package: Package,
        inputs: Sequence[np.ndarray],
        threads: int,
        folder: Path,
    ) -> dict[str, Any]:
        paths = []
        for i, array in enumerate(inputs):
            np.save(folder / f"in{i}.npy", array)
            paths.append(f"{folder}/in{i}.npy")
        return {
            "library": str(package.library.resolve()),
            "board_library": str(board_library(package.target.link_triple)),
            "inputs": paths,
            "outputs": [],
            "threads": threads,
            "machine": package.manifest["machine"],
            "connect_s": self.limits.connect_s,
            "call_s": self.limits.call_s,
            "session_s": self.limits.session_s,
        }

    def _attempts(self, job: dict[str, Any]) -> tuple[Server, dict[str, Any]]:
        faults = []
        for _ in range(self.limits.attempts):
            server = acquire(self.address, self.limits.wait_s)
            try:
                answer = self._ask(job, server)
            except Fault as fault:
                self._judge(fault, server, job)
                faults.append(f"{server.name} {_reason(fault)}")
                continue
            QUARANTINE.worked(server.name)
            return server, answer
        raise BoardUnavailable(
            f"given up after {len(faults)} attempts: {'; '.join(faults)}",
            where=str(self.address),
            do="Look at the output of the boards' RPC servers.",
        )

    def _ask(self, job: dict[str, Any], server: Server) -> dict[str, Any]:
        session = {
            "host": server.host,
            "port": server.port,
            "match_key": server.match_key,
        }
        return ask({**job, **session})

    def _judge(self, fault: Fault, server: Server, job: dict[str, Any]) -> None:
        if fault.kind == "load":  # the same on every board of the kind
            raise BoardUnavailable(
                f"the board cannot load the library: {fault.message}",
                where=f"board {server.name}",
                do=f"It must run Linux on {job['machine']} with apache-tvm "
                f"{metadata.version('apache-tvm')}.",
            )
        if fault.kind in ("program", "bug"):
            raise PackageError(
                f"the board refuses the package: {fault.message}",
                where=f"board {server.name}",
            )
        QUARANTINE.failed(
            server.name,
            _reason(fault),
            self.limits.quarantine_s,
            at_once=fault.kind in _AT_ONCE,
        )


def board_library(triple: str | None) -> Path:
    """The library that a board loads beside a network, built for its platform.

    Raises:
        CompileError: zig failed.
        BoardUnavailable: the cache cannot be written.
    """
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    version = metadata.version("apache-tvm-ffi")

    def make(folder: Path) -> None:
        import tvm_ffi.libinfo

        includes = [Path(path) for path in tvm_ffi.libinfo.include_paths()]
        link.library(_SOURCE, folder / "board.so", triple, includes)

    try:
        name = f"board-{triple or 'host'}-{digest}-{version}"
        return cached_directory(name, make) / "board.so"
    except EmulatorUnavailable as error:
        raise BoardUnavailable(error.what, error.where, error.do) from error


def _reason(fault: Fault) -> str:
    return f"{_WHAT.get(fault.kind, fault.kind)} ({fault.message})"


def _flush_bytes(package: Package) -> int:
    """Memory to read so that the caches hold nothing else."""
    return max(_MIN_FLUSH, 2 * package.target.machine.cache_bytes())


def _random_inputs(package: Package) -> list[np.ndarray]:
    """Normal numbers; zeros for integers, which may be indices."""
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal(spec.shape).astype(spec.dtype)
        if np.issubdtype(np.dtype(spec.dtype), np.floating)
        else np.zeros(spec.shape, spec.dtype)
        for spec in package.inputs
    ]
