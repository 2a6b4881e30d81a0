"""Train a small network, make it faster for a Raspberry Pi 3, compile it, check it.

    python -m benchmarks.demo [--seed N] [--out build/demo]

Writes ``report.json`` and, as ``package/``, the compiled network. What is under
``measured`` in the report comes from wall clocks; all else is the same in every run
with one seed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, fx, nn

import gos_fx
from benchmarks.digits import (
    DigitNet,
    Digits,
    accuracy,
    augmented,
    load_digits,
    train_digit_net,
)
from gos_fx.errors import EmulatorUnavailable
from gos_fx.evolve.statistics import paired_interval
from gos_fx.evolve.task import Score, top1
from gos_fx.kernels.host import time_interleaved

TARGET = "arm_a53"
EPSILON = 0.01
REQUIRED_ACCURACY = 0.97
SEARCH: dict[str, Any] = {
    "iterations": 3,
    "population": 8,
    "max_replacements": 6,
    "similar": 2,
}
# Training uses two threads of torch. Candidates are judged side by side, each by one:
# that does not change the result, and on operators this small it is faster.
WORKERS = 2


@dataclass(frozen=True)
class Run:
    """A trained network, the faster one, and what they were judged on."""

    data: Digits
    model: DigitNet
    small: fx.GraphModule
    train_s: float
    search_s: float


def train_and_optimize(seed: int, progress: Any = None) -> Run:
    """The part of the demo that one seed decides."""
    torch.set_num_threads(WORKERS)
    data = load_digits(seed)
    started = time.perf_counter()
    model = train_digit_net(data, seed)
    trained = time.perf_counter()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(WORKERS) as executor:
        small = gos_fx.optimize(
            model,
            TARGET,
            train_data=augmented(data.train, seed),
            eval_data=data.valid,
            epsilon=EPSILON,
            seed=seed,
            executor=executor,
            progress=progress,
            **SEARCH,
        )
    searched = time.perf_counter()
    return Run(data, model, small, trained - started, searched - trained)


def report_of(run: Run) -> dict[str, Any]:
    """What the search found, with accuracies on the data that it never saw."""
    data, result = run.data, run.small.gos
    before, after = _score(run.model, data), _score(run.small, data)
    interval = paired_interval(before, after)
    report: dict[str, Any] = result.to_json()
    for key, model in (("baseline", run.model), ("optimized", run.small)):
        report[key]["metric_validation"] = report[key].pop("metric")
        report[key]["metric_test"] = accuracy(model, data.test)
    report["test_drop"] = before.value - after.value
    report["test_drop_interval_95"] = interval
    report["test_images"] = sum(len(y) for _, y in data.test)
    return report


def measure_host(run: Run, x: Tensor) -> dict[str, Any]:
    """Both networks compiled by the same compiler, timed in turn on this machine."""
    names = ("baseline", "optimized")
    compiled = [
        gos_fx.compile(model, "host", example_inputs=x)
        for model in (run.model, run.small)
    ]
    timings = time_interleaved([c.host_module for c in compiled], [x], repeats=300)
    measured: dict[str, Any] = {
        name: {"median_s": t.median, "quartile_half_range_s": t.spread}
        for name, t in zip(names, timings, strict=True)
    }
    measured["threads"] = compiled[0].package.threads
    measured["speedup"] = timings[0].median / timings[1].median
    return measured


def build_package(run: Run, x: Tensor, directory: Path) -> dict[str, Any]:
    """Cross-compile, save, and run the ARM code where qemu is installed."""
    compiled = gos_fx.compile(run.small, TARGET, example_inputs=x)
    saved = compiled.save(directory)
    facts: dict[str, Any] = {"compile_s": compiled.seconds}
    if shutil.which("qemu-aarch64") is None:
        facts["skipped"] = "qemu-aarch64 is not installed"
        return facts
    try:
        (output,) = saved(x)
    except EmulatorUnavailable as error:
        facts["skipped"] = str(error)
        return facts
    with torch.no_grad():
        facts["max_abs_difference"] = float((output - run.small(x)).abs().max())
    return facts


def table_of(report: dict[str, Any]) -> Table:
    """Before and after, side by side."""
    before, after, host = (
        report["baseline"],
        report["optimized"],
        report["measured"]["host"],
    )
    table = Table(title=f"Handwritten digits on {report['target']}")
    for heading in ("", "original", "optimized", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = [
        (
            f"latency, {report['latency_source']}, {report['threads']} threads",
            *(f"{m['latency_s'] * 1e3:.3f} ms" for m in (before, after)),
            f"{report['speedup']:.2f}x",
        ),
        (
            f"latency, this machine's clock, {host['threads']} threads",
            *(f"{host[k]['median_s'] * 1e3:.3f} ms" for k in ("baseline", "optimized")),
            f"{host['speedup']:.2f}x",
        ),
        (
            "parameters",
            f"{before['parameters']:,}",
            f"{after['parameters']:,}",
            f"{before['parameters'] / after['parameters']:.2f}x",
        ),
    ]
    rows += [
        (f"accuracy, {name}", f"{before[key]:.2%}", f"{after[key]:.2%}", "")
        for name, key in (("validation", "metric_validation"), ("test", "metric_test"))
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _score(model: nn.Module, data: Digits) -> Score:
    with torch.no_grad():
        values = [v for x, y in data.test for v in top1(model(x), y).tolist()]
    return Score(tuple(values), (1.0,) * len(values))


def _progress(console: Console) -> Any:
    def show(entry: dict[str, Any]) -> None:
        names = ", ".join(entry["operators"])
        console.print(
            f"  {names}: generation {entry['generation'] + 1}, "
            f"{entry['evaluated']} judged, best {entry['best_latency_s'] * 1e3:.3f} ms "
            f"of {entry['original_latency_s'] * 1e3:.3f} ms"
        )

    return show


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    arguments = parser.parse_args()
    console = Console(stderr=True)
    started = time.perf_counter()
    console.print("training, then searching (about two minutes) ...")
    run = train_and_optimize(arguments.seed, _progress(console))
    report = report_of(run)
    x = run.data.test[0][0][:1]
    package = build_package(run, x, arguments.out / "package")
    host = measure_host(run, x)
    report["measured"] = {
        "host": host,
        "package": package,
        "train_s": run.train_s,
        "search_s": run.search_s,
        "total_s": time.perf_counter() - started,
    }
    path = arguments.out / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    _show(report, path)
    if report["baseline"]["metric_test"] < REQUIRED_ACCURACY:
        print(f"the original reaches less than {REQUIRED_ACCURACY:.0%}")
        return 1
    return 0


def _show(report: dict[str, Any], path: Path) -> None:
    console = Console()
    console.print(table_of(report))
    low, high = report["test_drop_interval_95"]
    console.print(
        f"test accuracy drop {report['test_drop']:+.2%}, "
        f"95 % interval [{low:+.2%}, {high:+.2%}] on {report['test_images']} images"
    )
    package = report["measured"]["package"]
    if "skipped" in package:
        console.print(f"ARM code not run: {package['skipped']}")
    else:
        console.print(
            "ARM code under qemu: largest difference to PyTorch "
            f"{package['max_abs_difference']:.2g}"
        )
    console.print(f"{path} and {path.parent / 'package'} are written")


if __name__ == "__main__":
    sys.exit(main())
