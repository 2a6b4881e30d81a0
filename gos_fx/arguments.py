"""What the command line names: models, weights, inputs, data, constraints."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gos_fx.errors import BadExampleInputs, BadOption, GosError

if TYPE_CHECKING:
    from torch import Tensor, nn

_DATA = ("train_data", "eval_data", "loss", "metric", "metric_mode")


def load_model(name: str, weights: str | None = None) -> nn.Module:
    """The model in eval mode.

    Args:
        name: ``file.py:name`` or ``package.module:name`` of a module, or of what gives
            one when it is called without arguments; or the directory of a saved run.
        weights: a ``.safetensors`` file, or one that ``torch.load`` reads without
            executing code.

    Raises:
        BadOption: there is no such thing, or it failed.
        DamagedRunDirectory: of a saved run.
    """
    from torch import nn

    if Path(name).is_dir():
        from gos_fx.api import load

        found: Any = load(name)
        if not isinstance(found, nn.Module):
            raise BadOption(
                "this is a package of machine code, not a model",
                where=name,
                do="name the model that it was compiled from, or a saved run",
            )
    else:
        found = _find(name, "MODEL")
        if not isinstance(found, nn.Module):
            found = _call(found, name)
        if not isinstance(found, nn.Module):
            raise BadOption(f"it gives {type(found).__name__}, not a module", name)
    if weights is not None:
        _load_weights(found, Path(weights))
    return found.eval()


def load_inputs(texts: Sequence[str]) -> tuple[Tensor, ...] | None:
    """Tensors of ``1,3,224,224`` (float32, normal values) or ``.npy`` files.

    None without any, so that the model's own example inputs count.

    Raises:
        BadExampleInputs: neither a shape nor a readable file.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    found = []
    for text in texts:
        if text.endswith(".npy"):
            found.append(load_array(text))
            continue
        try:
            shape = [int(part) for part in text.split(",")]
            found.append(torch.randn(shape, generator=generator))
        except (ValueError, RuntimeError) as error:
            raise BadExampleInputs(
                f"{text!r} is not a shape",
                where="--input",
                do="write 1,3,224,224, or name a file.npy",
            ) from error
    return tuple(found) or None


def load_array(path: str) -> Tensor:
    """A tensor from a ``.npy`` file.

    Raises:
        BadExampleInputs: it cannot be read, or is not of numbers.
    """
    import numpy as np
    import torch

    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError, TypeError, EOFError) as error:
        reason = getattr(error, "strerror", None) or _first_line(error)
        raise BadExampleInputs(reason, where=path) from error


def load_data(name: str) -> dict[str, Any]:
    """Keyword arguments of ``optimize`` from ``file.py:name``.

    A function is called; a tuple is (train_data, eval_data).

    Raises:
        BadOption: there is no such thing, it failed, or gives something else.
    """
    found = _find(name, "--data")
    if callable(found):
        found = _call(found, name)
    if isinstance(found, tuple | list) and len(found) == 2:
        return {"train_data": found[0], "eval_data": found[1]}
    if isinstance(found, Mapping) and found and set(found) <= set(_DATA):
        return dict(found)
    raise BadOption(
        f"it gives {type(found).__name__}",
        where=name,
        do=f"return (train_data, eval_data), or a dict with some of {', '.join(_DATA)}",
    )


def load_constraints(texts: Sequence[str]) -> dict[str, float]:
    """``["latency=0.02"]`` -> ``{"latency": 0.02}``.

    Raises:
        BadOption: one is not a name with a number.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise BadOption(
                f"{text!r} is not a constraint",
                where="--constraint",
                do="write latency=SECONDS, parameters=N, memory=BYTES or energy=JOULES",
            ) from error
    return found


def _find(name: str, argument: str) -> Any:
    """The object of ``file.py:name`` or ``package.module:name``; runs that code."""
    where, _, attribute = name.rpartition(":")
    if not where:
        raise BadOption(
            f"{name!r} is neither a directory nor FILE.py:NAME",
            where=argument,
            do="write models.py:build or package.models:build",
        )
    found: Any = _import(where, argument)
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [n for n in vars(found) if not n.startswith("_")]
            raise BadOption(
                f"{where} has no {attribute!r}",
                where=argument,
                do=f"it has {', '.join(names[:10]) or 'nothing'}",
            )
        found = getattr(found, part)
    return found


def _import(where: str, argument: str) -> Any:
    path = Path(where)
    if path.suffix == ".py":
        if not path.is_file():
            raise BadOption(f"there is no file {where}", where=argument)
        folder, name = str(path.resolve().parent), path.stem
    else:
        folder, name = os.getcwd(), where
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        known = sys.modules.get(name)
        if getattr(known, "__file__", None) == str(path.resolve()):
            return known  # named twice, as MODEL and for --data
        if path.suffix != ".py":
            return importlib.import_module(name)
        if name in sys.modules:  # another module's name: leave that one alone
            name = f"{name}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()}"
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickle look their module up there
        try:
            spec.loader.exec_module(module)
        except BaseException:  # also Ctrl-C: a half-made module must not be found again
            del sys.modules[name]
            raise
        return module
    except GosError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise _failed("importing it", where, error) from error


def _call(function: Callable[[], Any], name: str) -> Any:
    if not callable(function):
        raise BadOption(
            f"it is {type(function).__name__}",
            where=name,
            do="name a torch module, or what gives one when it is called",
        )
    try:
        return function()
    except GosError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise _failed("calling it without arguments", name, error) from error


def _failed(what: str, where: str, error: Exception) -> BadOption:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    line = f", {last.filename}:{last.lineno}" if last else ""
    return BadOption(
        f"{what} failed: {type(error).__name__}: {_first_line(error)}",
        where=f"{where}{line}",
    )


def _load_weights(model: nn.Module, path: Path) -> None:
    try:
        state = _read_weights(path)
    except OSError as error:
        raise BadOption(str(error.strerror or error), where=str(path)) from error
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise BadOption(
            f"it holds no weights: {_first_line(error)}",
            where=str(path),
            do="save a state_dict, as .safetensors or by torch.save",
        ) from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BadOption(
            f"the weights are not the model's: {' '.join(lines[1:4]) or lines[0]}",
            where=str(path),
        ) from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return dict(load(path.read_bytes()))
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):  # Lightning's and torchvision's checkpoints
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise ValueError(f"{type(state).__name__} in the place of a state_dict")
    return state


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
