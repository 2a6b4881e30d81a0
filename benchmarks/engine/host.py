"""Engines on this machine, timed in turn.

Each engine is a process of its own that loads a network and waits. In each round each
of them is let run for a few inferences while all others are stopped (SIGSTOP), so that
a thread that spins takes nothing from who is being timed, and what disturbs the machine
for longer than a round disturbs all alike. All run on the same CPUs.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.engine import model_files
from benchmarks.engine.case import max_abs_error
from benchmarks.engine.engine import engine
from benchmarks.engine.environment import environment, variables
from benchmarks.engine.processes import ROOT, EngineUnavailable, last_words
from benchmarks.engine.report import Result
from benchmarks.engine.unavailable import FAILURES, say
from gos_fx.kernels.host_timing import cores


class Worker:
    """A process of ``benchmarks.engine.worker``, stopped unless it is asked.

    Raises:
        EngineUnavailable: the engine cannot be had or does not run the network.
    """

    def __init__(self, name: str, network: str, threads: int, folder: Path) -> None:
        found = environment(name)
        self.name, self.version = name, found.version
        case = model_files.reference(network)
        output = folder / f"{name}.npy"
        model = model_files.converted(name, network, found)
        more = {"OMP_NUM_THREADS": str(threads), **dict(engine(name).variables)}
        more |= model_files.libraries(name, found.packages(), None)
        cpus = ",".join(map(str, cores(threads)))
        arguments = [name, network, model, case / "input.npy", threads, cpus, output]
        self._said = folder / f"{name}.stderr"
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [found.python, "-m", "benchmarks.engine.worker", *map(str, arguments)],
                cwd=ROOT,
                env=variables(more),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,  # to stop all that it starts
            )
        try:
            self._answer()
            self._stop()
            self.error = max_abs_error(output, case / "expected.npy")
        except BaseException:  # also Ctrl-C: no worker may stay behind
            self.close()
            raise

    def ask(self, inferences: int) -> list[float]:
        """Seconds of each of some inferences.

        Raises:
            EngineUnavailable: the engine died.
        """
        self._signal(signal.SIGCONT)
        assert self._process.stdin is not None
        print(inferences, file=self._process.stdin, flush=True)
        seconds: list[float] = json.loads(self._answer())
        self._stop()
        return seconds

    def close(self) -> None:
        """End the process."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise EngineUnavailable(last_words(self._said.read_text(errors="replace")))
        return line

    def _stop(self) -> None:
        """All of its threads stand still, or it has ended."""
        self._signal(signal.SIGSTOP)
        either = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        os.waitid(os.P_PID, self._process.pid, either)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)


def measure(
    names: Sequence[str], network: str, threads: int, rounds: int, inferences: int
) -> Iterator[Result]:
    """Each engine's time of a network; what cannot be had is said and left out.

    Args:
        rounds: how often each engine has its turn.
        inferences: timed ones of a turn, after one that is not.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="engines_"))
        workers = []
        for name in names:
            try:
                worker = Worker(name, network, threads, Path(folder))
            except FAILURES as error:
                say(name, network, "host", threads, error)
                continue
            stack.callback(worker.close)
            workers.append(worker)
        samples: list[list[float]] = [[] for _ in workers]
        for i in range(rounds):
            first = i % max(1, len(workers))  # who follows whom is the same, who is
            order = [*range(first, len(workers)), *range(first)]  # first is not
            for j in order:
                samples[j] += workers[j].ask(inferences)
        for worker, seconds in zip(workers, samples, strict=True):
            median = statistics.median(seconds)
            low, _, high = statistics.quantiles(seconds, n=4)
            yield Result(
                network=network,
                on="host",
                threads=threads,
                engine=worker.name,
                version=worker.version,
                latency_s=median,
                spread=(high - low) / 2 / median,
                max_abs_error=worker.error,
            )
