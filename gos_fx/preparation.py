"""What ``optimize`` makes of its arguments: the task, and which operators are meant."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gos_fx.evolve.task import Task, fidelity, squared_error, top1
from gos_fx.passes.operators import Operator
from gos_fx.passes.trace import run_once

# Without data: so many batches of so many samples.
_GENERATED_BATCHES, _GENERATED_BATCH = 8, 16


def task_of(
    model: nn.Module,
    inputs: tuple[Any, ...],
    train_data: Iterable[Any] | None,
    eval_data: Iterable[Any] | None,
    loss: Callable[[Any, Any], Tensor] | None,
    metric: Callable[[Any, Any], Any] | None,
    mode: str,
    seed: int,
) -> Task:
    """The data, loss and metric given; without data, fidelity to the model."""
    if eval_data is None and train_data is None:
        data = _generated(model, inputs, seed)
        return Task(data, data, squared_error, fidelity, "max", "fidelity", True)
    valid = train_data if eval_data is None else eval_data
    assert valid is not None
    return Task(
        train_data,
        valid,
        loss or nn.functional.cross_entropy,
        metric or top1,
        mode,
        getattr(metric, "__name__", "metric") if metric else "top-1 accuracy",
        parameters=tuple(inspect.signature(model.forward).parameters),
    )


def _generated(
    model: nn.Module, inputs: tuple[Any, ...], seed: int
) -> list[tuple[tuple[Any, ...], Any]]:
    """Normal inputs in the examples' shapes with the model's own outputs."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(_GENERATED_BATCHES):
        made = tuple(_noise(x, generator) for x in inputs)
        batches.append((made, run_once(model, made)))
    return batches


def _noise(x: Any, generator: torch.Generator) -> Any:
    if not isinstance(x, Tensor):
        return x
    shape = (_GENERATED_BATCH, *x.shape[1:])
    if x.is_floating_point():
        return torch.randn(shape, generator=generator).to(x.dtype)
    high = max(2, int(x.max()) + 1)
    return torch.randint(0, high, shape, generator=generator, dtype=x.dtype)


def wanted_operators(
    model: nn.Module,
    only: str | type[nn.Module] | Iterable[str | type[nn.Module]] | None,
    exclude: str | type[nn.Module] | Iterable[str | type[nn.Module]] | None,
) -> Callable[[Operator], bool]:
    modules = dict(model.named_modules())

    def matches(operator: Operator, wanted: Iterable[str | type[nn.Module]]) -> bool:
        return any(
            fnmatch.fnmatchcase(operator.name, want)
            if isinstance(want, str)
            else isinstance(modules.get(operator.name), want)
            for want in wanted
        )

    include = None if only is None else _each(only)
    leave = _each(exclude or ())
    return lambda op: (
        (include is None or matches(op, include)) and not matches(op, leave)
    )


def _each(
    wanted: str | type[nn.Module] | Iterable[str | type[nn.Module]],
) -> tuple[str | type[nn.Module], ...]:
    """A single name or type as a tuple of one."""
    return (wanted,) if isinstance(wanted, str | type) else tuple(wanted)


def batch_of(inputs: tuple[Any, ...]) -> int:
    first = next(x for x in inputs if isinstance(x, Tensor))
    return int(first.shape[0]) if first.dim() else 1
