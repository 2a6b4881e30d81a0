"""The command ``gos-fx tune``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator

from gos_fx import tables, tables_tuning
from gos_fx.verbs import INTERRUPTED, OK, Found, Outcome, names_input_option


def tune(arguments: argparse.Namespace) -> Outcome:
    """Measure which tile sizes suit the kernels, for every later compilation."""
    from gos_fx import tuning
    from gos_fx.arguments import load_inputs, load_model

    with names_input_option(), _bar() as progress:
        result = tuning.tune(
            load_model(arguments.model, arguments.weights),
            arguments.target,
            example_inputs=load_inputs(arguments.input),
            threads=arguments.threads,
            latency_source=arguments.latency_source,
            time_budget=arguments.time_budget,
            trials=arguments.trials,
            progress=progress,
            seed=arguments.seed,
        )
    status = INTERRUPTED if result.interrupted else OK
    return Outcome(result.to_json(), tables_tuning.show_tuning, status)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Found], None] | None]:
    """A progress bar over the kernels on stderr, where someone watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    out = tables.console(sys.stderr)
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("finding the kernels", total=None)

        def report(record: Found) -> None:
            trials = record["trials"]
            done = record["kernel"] * trials + record["trial"]
            text = f"kernel {record['kernel'] + 1} of {record['kernels']}"
            if record["before_s"] is not None:
                before = tables.milliseconds(record["before_s"])
                after = tables.milliseconds(record["after_s"])
                text += f", {after} ms, was {before} ms: {record['name']}"
            total = record["kernels"] * trials
            bar.update(task, completed=done, total=total, description=text)

        yield report
