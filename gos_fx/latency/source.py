"""Where latencies come from: one interface for the model, the emulator and hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import fx

from gos_fx.errors import BadOption
from gos_fx.ir.graph import Graph
from gos_fx.latency.model import Estimate
from gos_fx.targets.target import Target


@dataclass(frozen=True)
class NetworkLatency:
    """Latency of one inference, whole and in parts.

    Attributes:
        total: measured as a whole where the source measures, else the sum.
        operators: by operator name, those that have an instruction graph.
        others: by name, what runs between them.
        counters: by name of either, what the source counted, where it counts: for
            instance ``cycles`` and ``l1d_misses``.
    """

    total: Estimate
    operators: Mapping[str, Estimate]
    others: Mapping[str, Estimate]
    counters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Source(Protocol):
    """A way to know how long compiled code takes on a target.

    ``threads`` are those of the target that the code uses.
    """

    name: str
    target: Target
    threads: int

    def operator(self, graph: Graph) -> Estimate:
        """One operator alone, as compiled code with its operands in place.

        Args:
            graph: a concrete graph.

        Raises:
            GosError: it cannot be compiled or measured; the subclass says why.
        """

    def network(
        self, network: fx.GraphModule, inputs: tuple[Any, ...]
    ) -> NetworkLatency:
        """One inference of a traced network at the inputs' shapes.

        Raises:
            GosError: it cannot be compiled or measured; the subclass says why.
        """


NAMES = ("analytical", "emulator", "board", "host")


def open_source(name: str, target: Target, threads: int | None = None) -> Source:
    """The source of this name for a target, ready to be asked.

    Args:
        threads: all cores of the target unless given.

    Raises:
        BadOption: no such source, or it cannot serve this target.
        EmulatorUnavailable, BoardUnavailable: what it needs is not there.
    """
    threads = min(threads or target.threads, target.machine.cores)
    if name == "analytical":
        from gos_fx.latency.analytical import AnalyticalSource

        return AnalyticalSource(target, threads)
    if name == "emulator":
        from gos_fx.latency.emulator import EmulatorSource

        return EmulatorSource(target, threads)
    if name == "board":
        from gos_fx.latency.board import BoardSource

        return BoardSource(target, threads)
    if name == "host":
        from gos_fx.latency.host import HostSource

        return HostSource(target, threads)
    raise BadOption(
        f"there is no latency source {name!r}",
        where="latency_source",
        do=f"choose one of {', '.join(NAMES)}",
    )
