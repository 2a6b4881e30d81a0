"""The sizes of one kernel: what the model ranks first is measured, then what is near
the best of that."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import zip_longest
from math import hypot, inf

from gos_fx.errors import GosError, ProgramFailed
from gos_fx.ir.graph import Graph
from gos_fx.kernels.tuning.alone import for_model, with_sizes
from gos_fx.kernels.tuning.records import Records, ignored
from gos_fx.kernels.tuning.setting import Setting
from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.kernels.tuning.space import Space
from gos_fx.kernels.tuning.trial import Choice, Trial
from gos_fx.latency.analytical import SOURCE as ANALYTICAL
from gos_fx.latency.analytical import AnalyticalSource
from gos_fx.latency.choice import CANDIDATE_ERRORS
from gos_fx.latency.model import Estimate
from gos_fx.latency.repeats import identity, repeat_error
from gos_fx.latency.source import Source
from gos_fx.tuning_result import Found

# What says something of one candidate; anything else says something of the source.
_FAILURES = (*CANDIDATE_ERRORS, ProgramFailed)
# Tiles that the model ranks for a kernel; it takes half a millisecond for each.
POOL = 384
# What the model takes for so many times as slow as the default is not measured: it is
# seldom off by a third.
HOPELESS = 1.5
# Share of the trials that the model chooses, before measurements lead the way.
RANKED = 0.5
# Sources whose decisions yield to those of another.
_WEAKER = {
    "emulator": (ANALYTICAL,),
    "host": (ANALYTICAL,),
    "board": (ANALYTICAL, "emulator"),
}
_LONGEST_FAILURE = 300  # characters
# Of the graphs that are measured: what a source remembers of kernels that were compiled
# with tuned sizes has another one.
_NAME = "untuned"


class _Spent(Exception):
    """The trials or the time are."""


class KernelTuner:
    """Tunes one kernel by one source.

    Args:
        graph: the kernel's own, as :mod:`gos_fx.kernels.tuning.alone` makes it.
        space: of that graph.
        source: what is believed.
        analytical: ranks what the source is asked.
        records: keeps every trial that was measured, and the decision.
        rng: draws what the model ranks.
        trials: at most so many candidates are looked at, known ones included, so that
            the same call again measures nothing.
        deadline: of ``time.monotonic``; no measurement begins behind it.
        tell: called after each trial.
    """

    def __init__(
        self,
        graph: Graph,
        space: Space,
        source: Source,
        analytical: AnalyticalSource,
        records: Records,
        rng: random.Random,
        *,
        trials: int,
        deadline: float | None = None,
        tell: Callable[[KernelTuner], None] = lambda tuner: None,
    ) -> None:
        self.graph, self.space, self.source = graph, space, source
        self.analytical, self.records, self.rng = analytical, records, rng
        self.trials, self.deadline, self.tell = trials, deadline, tell
        self.setting = Setting.of(source.target, source.threads)
        self.identity = identity(source)
        self.log: dict[Sizes, Trial] = {}
        if source.name != ANALYTICAL:  # asking it again takes less than reading
            self.log = records.trials(graph.digest, self.setting, self.identity)
        self.looked_at: dict[Sizes, None] = {}
        self.measured, self.failed, self.known = 0, 0, len(self.log)

    def run(self) -> None:
        """Look at candidates until the trials, the time or the ideas are spent.

        Raises:
            GosError: the source fails, whatever the candidate.
        """
        try:
            if self._look(self.space.default).failure:
                return  # nor can the network be compiled or measured
            ranked = self._ranked(self.space.some(POOL, self.rng))
            first = max(1, round(RANKED * self.trials))
            for sizes in ranked[:first]:
                self._look(sizes)
            self._climb()
            for sizes in ranked[first:]:
                self._look(sizes)
        except _Spent:
            pass

    def finish(self, *, confirm: bool = True) -> Found:
        """Decide by all that is known, keep the decision, and say what it is.

        Args:
            confirm: measure the best and the default once more, while time allows: the
                best of many measurements is partly luck. Of both measurements the one
                counts that makes the gain smaller.

        Raises:
            GosError: the source fails while it confirms.
        """
        default = self.log.get(self.space.default)
        if default is None or default.failure:
            return self._found(None)
        best = self._best()
        while best and confirm and self.log[best].repeats < 2 and not self.is_late:
            self._repeat(self.space.default, min)
            self._repeat(best, max)
            best = self._best()
        return self._found(best)

    @property
    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    @property
    def default(self) -> Trial | None:
        """Of the default sizes, where it has a latency."""
        return self._usable.get(self.space.default)

    @property
    def fastest(self) -> Trial | None:
        """Of all that is known."""
        return min(self._usable.values(), key=_seconds, default=None)

    @property
    def _usable(self) -> dict[Sizes, Trial]:
        return {sizes: trial for sizes, trial in self.log.items() if not trial.failure}

    def _look(self, sizes: Sizes) -> Trial:
        if sizes not in self.looked_at:
            if len(self.looked_at) >= self.trials:
                raise _Spent
            if sizes not in self.log:
                if self.is_late:
                    raise _Spent
                self._note(sizes, self._ask(sizes, _NAME))
            self.looked_at[sizes] = None
            self.tell(self)
        return self.log[sizes]

    def _climb(self) -> None:
        """From the best so far to the first better one near it, again and again."""
        seen = [s for s in self.looked_at if not self.log[s].failure]
        at: Sizes | None = min(seen, key=lambda sizes: self.log[sizes].first)
        while at is not None:
            at = self._better(at)

    def _better(self, here: Sizes) -> Sizes | None:
        """The first better candidate near this one; None if there is none."""
        near = self._ranked(self.space.near(here))
        # The model may know nothing of unrolling, or think too much of it.
        tiles = [sizes for sizes in near if sizes.tile != here.tile]
        factors = [sizes for sizes in near if sizes.tile == here.tile]
        order = [
            s for pair in zip_longest(tiles, factors) for s in pair if s is not None
        ]
        seconds, idle = self.log[here].first, False
        for sizes in order:
            is_factor = sizes.tile == here.tile
            if is_factor and idle:
                continue
            trial = self._look(sizes)
            if not trial.failure and trial.first < seconds:
                return sizes
            # To the last digit: this kernel's code knows no such factor.
            idle = idle or (is_factor and trial.first == seconds)
        return None

    def _ranked(self, candidates: Iterable[Sizes]) -> list[Sizes]:
        """By the model, the fastest first, without what is hopeless."""
        found = {sizes: self._modelled(sizes) for sizes in candidates}
        most = HOPELESS * self._modelled(self.space.default)
        return sorted((s for s in found if found[s] <= most), key=found.__getitem__)

    def _modelled(self, sizes: Sizes) -> float:
        """Seconds by the model; infinite where it refuses."""
        try:
            return self.analytical.operator(for_model(self._graph(sizes))).seconds
        except GosError:
            return inf

    def _graph(self, sizes: Sizes) -> Graph:
        """What is compiled for these sizes.

        For the default no schedule nodes: it need not be what the same sizes would be
        as nodes, for instance where it is no tile at all but Winograd's algorithm.
        """
        if sizes == self.space.default:
            return self.graph
        return with_sizes(self.graph, sizes)

    def _ask(self, sizes: Sizes, name: str) -> Trial:
        """Measure, as a graph of this name; a source may remember graphs."""
        self.measured += 1
        graph = self._graph(sizes)
        if self.source.name == ANALYTICAL:
            graph = for_model(graph)
        try:
            with ignored():
                found = self.source.operator(replace(graph, name=name))
        except _FAILURES as error:
            self.failed += 1
            return Trial(failure=str(error)[:_LONGEST_FAILURE] or "it failed")
        return Trial(found.seconds, found.error, found.noise, found.seconds)

    def _note(self, sizes: Sizes, trial: Trial) -> None:
        self.log[sizes] = trial
        if self.source.name != ANALYTICAL:
            key = self.graph.digest, self.setting, self.identity
            self.records.add(*key, sizes, trial)

    def _repeat(self, sizes: Sizes, believed: Callable[..., Trial]) -> None:
        before = self.log[sizes]
        again = self._ask(sizes, f"{_NAME}_again{before.repeats}")
        if not again.failure:
            again = believed(before, again, key=_seconds)
        repeats = before.repeats + 1
        self._note(sizes, replace(again, first=before.first, repeats=repeats))

    def _best(self) -> Sizes | None:
        """What is better than the default by more than repeats differ."""
        usable = self._usable
        if self.space.default not in usable:
            return None
        default = usable[self.space.default]

        def order(sizes: Sizes) -> tuple[float, int, Sizes]:
            # of equals the one that is confirmed, and for ever the same one
            return usable[sizes].seconds, -usable[sizes].repeats, sizes

        sizes = min(usable, key=order)
        gain = default.seconds - usable[sizes].seconds
        doubts = (
            repeat_error(self._estimate(trial)) for trial in (default, usable[sizes])
        )
        return sizes if gain > hypot(*doubts) else None

    def _found(self, best: Sizes | None) -> Found:
        default, stands = self.log.get(self.space.default), True
        before = after = None
        if default is not None and not default.failure:
            chosen = default if best is None else self.log[best]
            before, after = self._estimate(default), self._estimate(chosen)
            choice = Choice(
                best,
                after.seconds,
                before.seconds,
                after.error,
                self.source.name,
                time.time(),
            )
            weaker = _WEAKER.get(self.source.name, ())
            stands = self.records.decide(
                self.graph.digest, self.setting, choice, weaker
            )
        return Found(
            before,
            after,
            self.space.default,
            best,
            stands,
            self.measured,
            self.failed,
            self.known,
            "" if default is None else default.failure,
        )

    def _estimate(self, trial: Trial) -> Estimate:
        name, target = self.source.name, self.source.target.name
        return Estimate(trial.seconds, trial.error, name, target, trial.noise)


def _seconds(trial: Trial) -> float:
    return trial.seconds
