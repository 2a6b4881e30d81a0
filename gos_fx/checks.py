"""Refusals of bad input, before any work is done on it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gos_fx.errors import (
    BadExampleInputs,
    BadOption,
    MissingExampleInputs,
    NonFiniteWeights,
    TrainingModeError,
    UnwritableRunDirectory,
)
from gos_fx.evolve.fitness import DEFAULT_OBJECTIVES, OBJECTIVES
from gos_fx.latency.energy import EnergyModel
from gos_fx.passes.trace import as_arguments, run_once
from gos_fx.targets.target import Target


def check_model(model: nn.Module) -> None:
    """Refuse what is no model, trains, or has weights that are not finite.

    Raises:
        BadOption, TrainingModeError, NonFiniteWeights.
    """
    if not isinstance(model, nn.Module):
        raise BadOption(
            f"{type(model).__name__} is not an nn.Module",
            where="model",
            do="pass the network itself, not its output or its state_dict",
        )
    for name, module in model.named_modules():
        if module.training and (list(module.children()) == [] or name == ""):
            raise TrainingModeError(
                f"{type(module).__name__} is in training mode",
                where=name or "model",
                do="call model.eval() first",
            )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if bad := _not_finite(model, name, tensor):
            raise NonFiniteWeights(
                f"{bad} of {tensor.numel()} values are infinite or not a number",
                where=name,
                do="reload the checkpoint, or train again with a smaller rate",
            )


def _not_finite(model: nn.Module, name: str, tensor: Tensor) -> int:
    """How many values of a tensor; minus infinity may be in the buffers of modules that
    are not torch's own, where masks that are added to scores have it."""
    if not tensor.is_floating_point():
        return 0
    bad = ~torch.isfinite(tensor)
    owner = type(model.get_submodule(name.rpartition(".")[0]))
    is_torchs = owner.__module__.startswith("torch.nn.")
    if not (is_torchs or isinstance(tensor, nn.Parameter)):
        bad &= tensor != float("-inf")
    return int(bad.sum())


def find_example_inputs(
    model: nn.Module, example_inputs: Any, *loaders: Iterable[Any] | None
) -> tuple[Any, ...]:
    """The argument; else the model's own; else one sample of the first loader.

    Raises:
        MissingExampleInputs: nothing says what the inputs look like.
        BadExampleInputs: they hold no tensor.
    """
    found = example_inputs
    if found is None:
        found = getattr(model, "example_input_array", None)
    if found is None:
        config = getattr(model, "pretrained_cfg", None)
        size = config.get("input_size") if isinstance(config, dict) else None
        found = None if size is None else torch.zeros(1, *size)
    if found is None:
        for loader in loaders:
            if loader is not None:
                inputs = next(iter(loader))[0]
                found = _first_sample(inputs)
                break
    if found is None:
        raise MissingExampleInputs(
            "nothing says what the model's inputs look like",
            where="example_inputs",
            do="pass example_inputs=torch.zeros(1, ...) in the shape of one sample",
        )
    arguments = as_arguments(model, found)
    if not any(isinstance(x, Tensor) for x in arguments):
        raise BadExampleInputs(
            "there is no tensor among them",
            where="example_inputs",
            do="pass tensors in the shape of one sample",
        )
    return arguments


def check_iterable(data: Any, where: str) -> None:
    """Raises BadOption for data that cannot be gone through."""
    if not isinstance(data, Iterable):
        raise BadOption(
            f"{type(data).__name__} cannot be gone through",
            where=where,
            do="pass a DataLoader or a list of (inputs, targets) batches",
        )


def check_batch(
    model: nn.Module, data: Iterable[Any], where: str
) -> tuple[tuple[Any, ...], Any]:
    """The first batch, if it is (inputs, targets) and the model runs on the inputs.

    Raises:
        BadOption: it is no such pair.
        BadExampleInputs: the model does not run on it.
    """
    try:
        batch = next(iter(data))
        inputs, targets = batch
    except (TypeError, ValueError) as error:
        raise BadOption(
            f"it does not give batches of (inputs, targets): {error}",
            where=where,
            do="pass a DataLoader or a list of such pairs",
        ) from error
    arguments = as_arguments(model, inputs)
    run_once(model, arguments)
    return arguments, targets


def check_limits(**limits: float | None) -> None:
    """Refuse counts below one and budgets that are negative or no number.

    Raises:
        BadOption.
    """
    for name, value in limits.items():
        if value is None:
            continue
        smallest = 0 if name in ("time_budget", "iterations") else 1
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise BadOption(f"{name}={value!r} is not a number", name)
        if not value >= smallest:
            raise BadOption(
                f"{name}={value} is below {smallest}", name, f"give {smallest} or more"
            )


def check_objectives(
    objectives: Sequence[str], constraints: Mapping[str, float], target: Target
) -> tuple[str, ...]:
    """The objectives in their order; constraints have the same names.

    Raises:
        BadOption: an unknown name, the paper's two are not among the objectives, a
            limit that is no positive number, or energy where nothing is known of it.
    """
    for where, names in (("objectives", objectives), ("constraints", constraints)):
        for name in [names] if isinstance(names, str) else names:
            if name not in OBJECTIVES:
                raise BadOption(
                    f"there is no {where[:-1]} {name!r}",
                    where=where,
                    do=f"use {', '.join(OBJECTIVES)}",
                )
            if name == "energy":
                EnergyModel(target)  # says what is missing
    if isinstance(objectives, str) or not set(DEFAULT_OBJECTIVES) <= set(objectives):
        raise BadOption(
            f"the objectives {objectives!r} lack one of {DEFAULT_OBJECTIVES}",
            where="objectives",
            do="name both, and memory or energy if you want",
        )
    check_constraints(constraints)
    return tuple(name for name in OBJECTIVES if name in objectives)


def check_constraints(constraints: Mapping[str, float]) -> None:
    """Raises BadOption for a limit that is no positive number."""
    for name, limit in constraints.items():
        if not isinstance(limit, int | float) or not (
            math.isfinite(limit) and limit > 0
        ):
            raise BadOption(
                f"{name}={limit!r} is not a positive number",
                where="constraints",
                do="latency is in seconds, memory in bytes, energy in joules",
            )


def check_epsilon(epsilon: float) -> None:
    """Raises BadOption unless it is a number that is not negative."""
    if not (isinstance(epsilon, int | float) and math.isfinite(epsilon)):
        raise BadOption(
            f"epsilon={epsilon!r} is not a number",
            where="epsilon",
            do="give the loss of the metric that you allow, 0.01 for one point",
        )
    if epsilon < 0:
        raise BadOption(
            f"epsilon={epsilon} is negative",
            where="epsilon",
            do="give the loss of the metric that you allow, 0.01 for one point",
        )


def prepare_run_directory(directory: str | Path) -> Path:
    """Make the directory and write to it once.

    Raises:
        UnwritableRunDirectory: with the system's reason.
    """
    path = Path(directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        raise UnwritableRunDirectory(
            f"{error.strerror or error}",
            where=str(path),
            do="pass a run_dir that you can write to",
        ) from error
    return path


def _first_sample(inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return inputs[:1]
    if isinstance(inputs, dict):
        return {key: _first_sample(value) for key, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return tuple(_first_sample(value) for value in inputs)
    return inputs
