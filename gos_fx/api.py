"""The public functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gos_fx import checks
from gos_fx.errors import BadOption, NotBuiltYet
from gos_fx.evolve.engine import SearchOptions
from gos_fx.evolve.task import require_reiterable
from gos_fx.latency.choice import choose
from gos_fx.latency.profile import Profile, profile_network
from gos_fx.latency.source import Source, open_source
from gos_fx.options import Options
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.passes.serialize import network_to_json
from gos_fx.passes.trace import run_once
from gos_fx.pipeline import Optimization, prepare, versions
from gos_fx.preparation import batch_of, task_of, wanted_operators
from gos_fx.result import OptimizationResult
from gos_fx.store import load_run
from gos_fx.targets import target as target_table
from gos_fx.targets.target import Target

if TYPE_CHECKING:
    from torch import fx

    from gos_fx.compiled import CompiledModel
    from gos_fx.lowered import LoweredModel


def targets() -> tuple[str, ...]:
    """Names of all targets that the other functions take."""
    return target_table.names()


def optimize(
    model: nn.Module,
    target: str | Target,
    *,
    example_inputs: Any = None,
    train_data: Iterable[Any] | None = None,
    eval_data: Iterable[Any] | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    metric: Callable[[Any, Any], Any] | None = None,
    metric_mode: str = "max",
    epsilon: float = 0.01,
    objectives: Sequence[str] = ("latency", "parameters"),
    constraints: Mapping[str, float] | None = None,
    only: str | type[nn.Module] | Iterable[str | type[nn.Module]] | None = None,
    exclude: str | type[nn.Module] | Iterable[str | type[nn.Module]] | None = None,
    max_replacements: int = 10,
    similar: int = 4,
    iterations: int = 50,
    population: int = 12,
    time_budget: float | None = None,
    latency_source: str | Source = "auto",
    threads: int | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    executor: Executor | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    seed: int = 0,
) -> fx.GraphModule:
    """A faster network with the same inputs and outputs, for one target.

    Replaces the least efficient operators by evolved instruction graphs that keep the
    metric on ``eval_data`` within ``epsilon`` (absolute) of the original's. Attribute
    ``gos`` of the result is the :class:`~gos_fx.result.OptimizationResult`.

    Args:
        model: a trained network in eval mode. It is not changed.
        target: a name from :func:`targets`, or a ``Target``.
        example_inputs: a tensor, a tuple of arguments, or a dict by parameter name, at
            the batch size to optimize for.
        train_data, eval_data: re-iterable batches of (inputs, targets). Without any
            data, fidelity to the original's outputs on generated inputs decides, and
            ``gos.facts["accuracy_measured"]`` is False.
        loss: ``loss(outputs, targets)``; cross entropy unless given.
        metric: ``metric(outputs, targets)``, one value for each sample or one for the
            batch; top-1 accuracy unless given. ``metric_mode`` is "max" or "min".
        objectives: what is minimised: "latency" and "parameters", and, if named,
            "memory" (bytes, foreseen) and "energy" (joules, modelled).
        constraints: upper limits for "latency" (s), "parameters", "memory" (bytes) and
            "energy" (J); the search ends as soon as all hold.
        only, exclude: module names, patterns (``layer4.*``) or types of the leading
            module of an operator.
        max_replacements: at most so many operators are replaced.
        similar: at most so many operators of one template are replaced together.
        iterations, population: generations for each replacement, and their size.
        time_budget: seconds; the search stops at the next end of a generation.
        latency_source: "analytical", or a source that measures: "emulator", "board",
            "host" (or one that you opened). Candidates are always filtered by the
            analytical model; what measures finds the slowest operators, judges the
            finalists of each group, and the original and the result as a whole.
            "auto" takes the best of board, emulator and host that is there, or none
            of them; ``gos.facts`` says which, and why where nothing confirms.
        threads: of the target; all cores of the cluster unless given.
        run_dir: the result is saved there; :func:`load` reads it back.
        seed: of every random choice.

    Raises:
        GosError: a subclass for each kind of bad input; see :mod:`gos_fx.errors`.
    """
    started = time.monotonic()
    resolved = target_table.get(target)
    checks.check_model(model)
    checks.check_epsilon(epsilon)
    objectives = checks.check_objectives(objectives, constraints or {}, resolved)
    _check_options(metric_mode, resume)
    checks.check_limits(
        max_replacements=max_replacements,
        similar=similar,
        iterations=iterations,
        time_budget=time_budget,
        threads=threads,
    )
    directory = None if run_dir is None else checks.prepare_run_directory(run_dir)
    for data, where in ((train_data, "train_data"), (eval_data, "eval_data")):
        if data is not None:
            checks.check_iterable(data, where)
            require_reiterable(data, where)
            checks.check_batch(model, data, where)
    inputs = checks.find_example_inputs(model, example_inputs, eval_data, train_data)
    run_once(model, inputs)
    task = task_of(
        model, inputs, train_data, eval_data, loss, metric, metric_mode, seed
    )
    latencies = choose(latency_source, resolved, threads)
    options = Options(
        objectives=objectives,
        epsilon=epsilon,
        constraints=dict(constraints or {}),
        max_replacements=max_replacements,
        similar=similar,
        worth=Options.worth if only is None else 0.0,  # what is named is wanted
        time_budget=time_budget,
        threads=threads,
        seed=seed,
        search=SearchOptions(iterations=iterations, population=population),
    )
    facts = {
        "target": resolved.name,
        "threads": latencies.analytical.threads,
        "objectives": list(objectives),
        "seed": seed,
        "epsilon": epsilon,
        "metric": task.name,
        "metric_mode": task.mode,
        "accuracy_measured": eval_data is not None or train_data is not None,
        "iterations": iterations,
        "population": population,
        "batch": batch_of(inputs),
        "versions": versions(),
    }
    optimization = Optimization(
        model,
        inputs,
        task,
        resolved,
        options,
        latencies=latencies,
        wanted=wanted_operators(model, only, exclude),
        executor=executor,
        progress=progress,
        facts=facts,
        started=started,
    )
    if only is not None and not optimization.untried:
        raise BadOption(
            f"no operator is called or is a {only!r}, or exclude takes it out",
            where="only",
            do=f"there are {', '.join(optimization.names[:8])}, ...",
        )
    if only is not None and all(optimization.untried.values()):
        name, reason = next(iter(optimization.untried.items()))
        raise BadOption(
            f"{name} cannot be replaced: {reason}",
            where="only",
            do="name operators that compute one feature map from one; "
            "gos_fx.lower shows their graphs",
        )
    if directory is not None:  # refuse before the search what could not be saved after
        network_to_json(optimization.original)
    result = optimization.run()
    if directory is not None:
        result.save(directory)
    return result.select(result.chosen)


def profile(
    model: nn.Module,
    target: str | Target,
    *,
    example_inputs: Any = None,
    source: str | Source = "analytical",
    threads: int | None = None,
) -> Profile:
    """Latency, parameters and memory of each operator on a target.

    Args:
        source: "analytical" needs no tool; "emulator", "board" and "host" measure the
            compiled network. Their errors stand beside the numbers. Or a source that
            you opened, whose target and threads count.

    Raises:
        GosError: unknown target or source, a model that cannot be traced or run, or
            what the source needs is not there.
    """
    resolved = target_table.get(target)
    checks.check_model(model)
    inputs = checks.find_example_inputs(model, example_inputs)
    opened = source
    if isinstance(opened, str):
        opened = open_source(opened, resolved, threads)
    return profile_network(prepare(model, inputs), opened, inputs)


def compile(
    model: nn.Module,
    target: str | Target = "host",
    *,
    example_inputs: Any = None,
    threads: int | None = None,
) -> CompiledModel:
    """Machine code of the model for a target, made in a process of its own.

    Raises:
        CompileError: the compiler refused or died; the stage and its last words.
        GosError: as for :func:`profile`.
    """
    from gos_fx.compiled import compile_network

    resolved = target_table.get(target)
    checks.check_model(model)
    inputs = checks.find_example_inputs(model, example_inputs)
    network = make_opaque(model, inputs)
    return compile_network(network, inputs, resolved, threads)


def load(directory: str | Path) -> fx.GraphModule | CompiledModel:
    """A saved run as its network, or a saved package as its compiled model.

    No code of the files is executed: they are JSON, safetensors and hashes.

    Raises:
        DamagedRunDirectory, PackageError: what is wrong with which file.
    """
    path = Path(directory)
    if (path / "manifest.json").exists():
        from gos_fx.compiled import load_compiled

        return load_compiled(path)
    result: OptimizationResult = load_run(path)
    return result.select(result.chosen)


def lower(model: nn.Module, example_inputs: Any) -> LoweredModel:
    """The whole model as instruction graphs, modules and the functions between them.

    ``print`` shows the graphs, ``coverage`` the share of operators that have one and
    why others do not, ``to_graph_module()`` gives the model back with every one of them
    as plain torch calls. Batch norms are instructions of their own: nothing is folded.

    Args:
        model: in eval mode. It is not changed.
        example_inputs: a tensor, a tuple of arguments, or a dict by parameter name.

    Raises:
        GosError: a model in training mode, or one that cannot be traced or run.
    """
    from gos_fx.lowered import lower_model

    checks.check_model(model)
    return lower_model(model, checks.find_example_inputs(model, example_inputs))


def _check_options(metric_mode: str, resume: bool) -> None:
    if metric_mode not in ("max", "min"):
        raise BadOption(f"metric_mode={metric_mode!r}", "metric_mode", "max or min")
    if resume:
        raise NotBuiltYet(
            "resuming a run is not built yet",
            where="resume",
            do="run again with the same seed, which gives the same result",
        )
