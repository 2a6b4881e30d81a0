"""Random graphs in torch, in code for this machine, and in code for ARM under qemu.

Graphs have the seeds from ``--seed`` on; the first of those that are checked in torch
are compiled. Exits with 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.random_graphs.checks import Finding, check
from benchmarks.random_graphs.compiled import Graphs, check_compiled
from benchmarks.random_graphs.report import Report

# Largest share of graphs that may be left out.
MOST_EXCLUDED = 0.05


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.random_graphs", description=__doc__
    )
    parser.add_argument("--torch", type=int, default=10_000, help="graphs in torch")
    parser.add_argument("--host", type=int, default=1_000, help="graphs compiled here")
    parser.add_argument("--arm", type=int, default=100, help="graphs under qemu")
    parser.add_argument("--seed", type=int, default=0, help="of the first graph")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--batch", type=int, default=40, help="graphs in one library")
    parser.add_argument("--json", type=Path, help="where the report goes as data")
    chosen = parser.parse_args(arguments)
    context = get_context("spawn")
    with ProcessPoolExecutor(
        chosen.processes, context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        report = run(
            pool,
            {"torch": chosen.torch, "host": chosen.host, "arm": chosen.arm},
            first=chosen.seed,
            batch=chosen.batch,
        )
    print(report)
    if chosen.json:
        chosen.json.write_text(json.dumps(report.to_json(), indent=1))
    too_many = len(report.excluded) > MOST_EXCLUDED * report.checked["torch"]
    return 1 if report.failures or too_many else 0


def run(pool: Executor, counts: dict[str, int], *, first: int, batch: int) -> Report:
    """The checks, spread over the processes of a pool."""
    report, sound = Report(first), {}
    seeds = range(first, first + counts["torch"])
    for seed, (graph, failure, excluded) in zip(
        seeds, pool.map(check, seeds, chunksize=50), strict=True
    ):
        report.checked["torch"] += 1
        report.count([graph])
        if failure:
            report.failures.append(failure)
        elif excluded:
            report.excluded.append(excluded)
        else:
            sound[seed] = graph
    for machine in ("host", "arm"):
        taken = dict(list(sound.items())[: counts[machine]])
        jobs = [
            pool.submit(check_compiled, part, machine) for part in _parts(taken, batch)
        ]
        for job, part in zip(jobs, _parts(taken, batch), strict=True):
            findings: list[Finding] = job.result()
            report.checked[machine] += len(part)
            report.failures += findings
            done = f"{report.checked[machine]} of {len(taken)} in {machine}"
            print(done, *findings, sep="\n", file=sys.stderr)
    return report


def _parts(graphs: Graphs, size: int) -> Iterator[Graphs]:
    items = list(graphs.items())
    for start in range(0, len(items), size):
        yield dict(items[start : start + size])


if __name__ == "__main__":
    sys.exit(main())
