"""Which source a search believes: what was named, or the best that there is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from gos_fx import config
from gos_fx.errors import BadOption, CompileError, GosError, Unsupported, VerifyError
from gos_fx.ir.graph import Graph
from gos_fx.latency.analytical import AnalyticalSource
from gos_fx.latency.model import Estimate
from gos_fx.latency.profile import Profile, profile_network
from gos_fx.latency.source import Source, open_source
from gos_fx.passes.operators import Operator
from gos_fx.targets.target import Target

logger = logging.getLogger("gos_fx")

AUTO = "auto"
# What says something of one candidate; anything else says something of the source.
CANDIDATE_ERRORS = (CompileError, Unsupported, VerifyError)


class SourceLost(Exception):
    """The measured source failed where falling back is allowed: the numbers that it
    gave so far cannot be compared with another's."""


@dataclass
class Chosen:
    """The source of a search. Not only its name: see :func:`choose`.

    Attributes:
        analytical: filters, whatever confirms.
        measured: confirms; None where nothing does.
        automatic: falling back from one source to the next is allowed.
        candidates: that "auto" has not tried yet.
        refused: what "auto" tried and why it was not to be had.
    """

    analytical: AnalyticalSource
    measured: Source | None
    automatic: bool = False
    candidates: list[str] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    _operators: dict[str, Estimate | GosError] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """The one whose numbers are compared."""
        return self.measured or self.analytical

    def opened(self) -> Source:
        """:attr:`source`, once "auto" has found one that is to be had."""
        while self.candidates and self.measured is None:
            name = self.candidates.pop(0)
            try:
                target, threads = self.analytical.target, self.analytical.threads
                self.measured = open_source(name, target, threads)
            except GosError as error:
                self._refuse(name, error)
        return self.source

    def first_profile(
        self,
        network: fx.GraphModule,
        inputs: tuple[Any, ...],
        operators: Sequence[Operator],
    ) -> Profile:
        """Of the original, by the best source that can measure it.

        Raises:
            GosError: the source that was named cannot.
        """
        while self.candidates:
            name = self.candidates.pop(0)
            try:
                target, threads = self.analytical.target, self.analytical.threads
                self.measured = open_source(name, target, threads)
                return profile_network(network, self.measured, inputs, operators)
            except GosError as error:
                self._refuse(name, error)
        return profile_network(network, self.source, inputs, operators)

    def profile(
        self,
        network: fx.GraphModule,
        inputs: tuple[Any, ...],
        operators: Sequence[Operator],
    ) -> Profile:
        """Of a network of the search.

        Raises:
            SourceLost: "auto" lost its source; ``source`` is the analytical one now.
            GosError: the source that was named cannot.
        """
        try:
            return profile_network(network, self.source, inputs, operators)
        except GosError as error:
            raise self._lost(error) from error

    def operator(self, graph: Graph) -> Estimate:
        """Of a concrete graph by the source that confirms; each is measured once.

        Raises:
            CompileError, Unsupported, VerifyError: this graph has no latency.
            SourceLost, GosError: as for :meth:`profile`.
        """
        known = self._operators.get(graph.digest)
        if known is None:
            try:
                known = self.source.operator(graph)
            except CANDIDATE_ERRORS as error:
                known = error
            except GosError as error:
                raise self._lost(error) from error
            self._operators[graph.digest] = known
        if isinstance(known, GosError):
            raise known
        return known

    def facts(self) -> dict[str, Any]:
        """For the result: the source, and why nothing else confirmed."""
        found: dict[str, Any] = {"latency_source": self.source.name}
        if self.refused:
            found["latency_refused"] = list(self.refused)
        if self.measured is None:
            reasons = [f"{r['source']}: {r['reason']}" for r in self.refused]
            nothing = "no measured source serves this target"
            if not self.automatic:
                nothing = "the analytical source measures nothing"
            found["latency_unconfirmed"] = "; ".join(reasons) or nothing
        return found

    def _lost(self, error: GosError) -> Exception:
        if self.measured is None or not self.automatic:
            return error
        self._refuse(self.measured.name, error)
        return SourceLost(self.refused[-1]["reason"])

    def _refuse(self, name: str, error: GosError) -> None:
        logger.warning("latency source %s: %s", name, error)
        self.refused.append({"source": name, "reason": str(error)})
        self.measured = None
        self._operators.clear()


def choose(wanted: str | Source, target: Target, threads: int | None) -> Chosen:
    """The sources of a search.

    Args:
        wanted: a name, a source of the caller's own, or "auto": the best of the board
            (where its address is known), the emulator (where the target has an
            emulation) and the host (where it is the target), or none of them.

    Raises:
        BadOption: there is no such source, or it is of another target.
        GosError: the source that was named is not to be had.
    """
    analytical = AnalyticalSource(target, threads)
    if wanted == AUTO:
        return Chosen(analytical, None, True, available(target))
    if wanted == "analytical":
        return Chosen(analytical, None)
    if isinstance(wanted, str):
        return Chosen(analytical, open_source(wanted, target, threads))
    if wanted.target.name != target.name:
        raise BadOption(
            f"it measures {wanted.target.name}, not {target.name}",
            where="latency_source",
            do="Open it for the target that you optimize for.",
        )
    return Chosen(analytical, wanted)


def available(target: Target) -> list[str]:
    """Measured sources that may serve a target, the best first."""
    board = target.board is not None or (config.tracker() and config.tracker_key())
    found = []
    if board and target.link_triple is not None:
        found.append("board")
    if target.emulation is not None:
        found.append("emulator")
    if target.link_triple is None:
        found.append("host")
    return found
