"""Tune the kernels of a network: the public function."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gos_fx import checks, instructions  # noqa: F401  (fills the instruction table)
from gos_fx.ir.graph import Graph
from gos_fx.kernels.build import kernels_of
from gos_fx.kernels.tiles import extents
from gos_fx.kernels.tuning.alone import for_model
from gos_fx.kernels.tuning.records import Records
from gos_fx.kernels.tuning.space import Space
from gos_fx.latency.choice import Chosen, choose
from gos_fx.latency.source import Source
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.targets import target as target_table
from gos_fx.targets.target import Target
from gos_fx.tuner import KernelTuner
from gos_fx.tuning_result import TunedKernel, TuningResult

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("gos_fx")
Progress = Callable[[dict[str, Any]], None]


def tune(
    model: nn.Module,
    target: str | Target,
    *,
    example_inputs: Any = None,
    threads: int | None = None,
    latency_source: str | Source = "auto",
    time_budget: float | None = None,
    trials: int = 32,
    progress: Progress | None = None,
    seed: int = 0,
) -> TuningResult:
    """Find better tile sizes and unroll factors for the kernels of a network.

    What is found is kept in a database in the cache, by kernel, target and threads.
    ``compile`` and all that compiles uses it from then on; the network is not changed.
    Sizes are only kept if they gain more than two measurements of the same code differ.
    Kernels that are equal are tuned once, and what the database knows is not measured
    again. Ctrl-C ends the tuning and keeps what was found.

    Args:
        model: in eval mode.
        target: a name from ``gos_fx.targets()``, or a ``Target``.
        example_inputs: as for ``compile``: their shapes are those that are tuned for.
        threads: of the target; all cores of the cluster unless given.
        latency_source: "analytical", "emulator", "board", "host", or one that you
            opened. "auto" takes the best of board, emulator and host that is there,
            or else the analytical model, and says which.
        time_budget: seconds for all kernels; one measurement may go over.
        trials: for each kernel, at most.
        progress: called after each trial with ``kernel`` (its number), ``kernels``,
            ``name``, ``trial``, ``trials``, ``before_s`` and ``after_s``.
        seed: of every random choice.

    Raises:
        CompileError: the network cannot be compiled.
        TuningRecordsUnusable: the database cannot be written.
        GosError: as for ``compile``; or the source fails, and then what was found
            before that is kept.
    """
    started = time.monotonic()
    resolved = target_table.get(target)
    checks.check_model(model)
    checks.check_limits(trials=trials, time_budget=time_budget, threads=threads)
    inputs = checks.find_example_inputs(model, example_inputs)
    chosen = choose(latency_source, resolved, threads)
    source = chosen.opened()
    network = make_opaque(model, inputs)
    kernels = kernels_of(network, inputs, source.target, source.threads)
    tuning = _Tuning(chosen, trials, seed, progress)
    tuning.find(kernels)
    deadline = None if time_budget is None else started + time_budget
    return tuning.run(deadline, started)


@dataclass(frozen=True)
class _Task:
    """One kernel to tune. ``weight``: seconds of all its calls, by the model."""

    graph: Graph
    space: Space
    calls: int
    weight: float

    @property
    def name(self) -> str:
        """``cross_correlation 3x3 1x64x56x56 -> 1x128x28x28``: window and shapes."""
        kernel, types = self.space.kernel, self.space.types
        loops, anchor = extents(kernel, types), kernel.anchor
        words = [anchor.opcode]
        if "kh" in loops:
            words.append(f"{loops['kh']}x{loops['kw']}")
        if anchor.attrs.get("groups", 1) > 1:
            words.append(f"{anchor.attr('groups')} groups")
        shapes = (types[anchor.operands[0]].shape, kernel.nodes[-1].type.shape)
        words.append(" -> ".join("x".join(map(str, shape)) for shape in shapes))
        return " ".join(words)


class _Tuning:
    """The kernels of one network, one after the other."""

    def __init__(
        self, chosen: Chosen, trials: int, seed: int, progress: Progress | None
    ) -> None:
        self.chosen, self.source = chosen, chosen.source
        self.trials, self.seed, self.progress = trials, seed, progress
        self.records = Records()
        self.machine = replace(self.source.target.machine, cores=self.source.threads)
        self.tasks: list[_Task] = []
        self.done: list[TunedKernel] = []

    def find(self, kernels: Iterable[Graph]) -> None:
        """Choose from the network's kernels those that have a tile, and order them."""
        for graph, calls in Counter(kernels).items():
            space = Space.of(graph, self.machine)
            if space is not None:
                once = self.chosen.analytical.operator(for_model(graph)).seconds
                self.tasks.append(_Task(graph, space, calls, calls * once))
        self.tasks.sort(key=lambda task: -task.weight)

    def run(self, deadline: float | None, started: float) -> TuningResult:
        """Tune until all are or the time is spent."""
        interrupted = False
        try:
            for index, task in enumerate(self.tasks):
                self._tune(index, task, deadline)
        except KeyboardInterrupt:
            logger.warning("interrupted: what was found is kept")
            interrupted = True
        return TuningResult(
            self.source.target.name,
            self.source.threads,
            self.source.name,
            tuple(self.done),
            self.records.path,
            time.monotonic() - started,
            interrupted,
            tuple(self.chosen.refused),
        )

    def _tune(self, index: int, task: _Task, deadline: float | None) -> None:
        left = sum(other.weight for other in self.tasks[index:])
        if deadline is not None and left > 0:
            now = time.monotonic()
            deadline = now + max(0.0, deadline - now) * task.weight / left
        tuner = KernelTuner(
            task.graph,
            task.space,
            self.source,
            self.chosen.analytical,
            self.records,
            random.Random(f"{self.seed} {task.graph.digest}"),
            trials=self.trials,
            deadline=deadline,
            tell=lambda tuner: self._tell(index, task, tuner),
        )
        whole = False
        try:
            tuner.run()
            whole = True
        finally:
            found = tuner.finish(confirm=whole)
            self.done.append(TunedKernel(task.name, task.graph.text, task.calls, found))

    def _tell(self, index: int, task: _Task, tuner: KernelTuner) -> None:
        if self.progress is None:
            return
        before, after = tuner.default, tuner.fastest
        self.progress(
            {
                "kernel": index,
                "kernels": len(self.tasks),
                "name": task.name,
                "trial": len(tuner.looked_at),
                "trials": self.trials,
                "before_s": None if before is None else before.seconds,
                "after_s": None if after is None else after.seconds,
            }
        )
