"""What decides a compiled library, as one SHA-256.

A network is described by the code and the numbers of its modules, without running or
exporting it. Where something has a say that is not known here, as code that is neither
torch's nor ours, there is no key, and the network is compiled anew each time.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

# Their sources have a say in code: all but searching, measuring and the interface.
_SOURCES = ("emulator", "instructions", "ir", "kernels", "passes", "targets")
_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "torch", "numpy", "ziglang")
_TRUSTED = ("torch", "gos_fx", "_operator", "operator", "math", "builtins")
_NAMESPACES = ("aten", "prims", "gos_fx")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_NAMED = (torch.dtype, torch.device, torch.memory_format, torch.layout)
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class _Unknown(Exception):
    """Something of which we cannot say what it computes."""


def network_key(module: nn.Module, inputs: Any, facts: Any) -> str | None:
    """Key of a network compiled for inputs of such shapes; None where there is none.

    Args:
        facts: the rest of the job, as plain data: target, threads, tuned sizes.
    """
    try:
        leaves, spec = pytree.tree_flatten(inputs)
        network = {
            "module": _Description().module(module),
            "inputs": [_input(leaf) for leaf in leaves],
            "structure": str(spec),
            "dtype": str(torch.get_default_dtype()),
            "device": str(torch.get_default_device()),
            "autocast": torch.is_autocast_enabled("cpu"),
        }
    except _Unknown:
        return None
    return job_key({"network": network, "facts": facts})


def job_key(facts: Any) -> str:
    """Key of a job that is plain data."""
    return _digest([facts, sources(), _versions()])


@functools.cache
def sources() -> str:
    """SHA-256 of our sources, as they were when this process first asked."""
    return read_sources()


def read_sources() -> str:
    """SHA-256 of our sources as they are now."""
    found = hashlib.sha256()
    for package in _SOURCES:
        spec = importlib.util.find_spec(f"gos_fx.{package}")
        for root in (spec and spec.submodule_search_locations) or ():
            _add_folder(found, Path(root))
    return found.hexdigest()


@functools.cache
def _versions() -> str:
    """Of Python and of the packages that make code: LLVM is inside TVM's."""
    records = [
        (name, metadata.version(name), metadata.distribution(name).read_text("RECORD"))
        for name in _PACKAGES
    ]
    return _digest([sys.version, records])


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _input(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return _plain(value)
    _check_tensor(value)
    return [str(value.dtype), list(value.shape), list(value.stride())]


class _Description:
    """Modules as plain data; each tensor is read once."""

    def __init__(self) -> None:
        self._digests: dict[int, Any] = {}

    def module(self, module: nn.Module) -> Any:
        if any(getattr(module, hooks, None) for hooks in _HOOKS):
            raise _Unknown
        tensors = {**module._parameters, **module._buffers}
        own: Any
        if isinstance(module, fx.GraphModule):
            own = _code(module)
            for node in module.graph.find_nodes(op="get_attr"):
                value = _attribute(module, str(node.target))
                if isinstance(value, Tensor):
                    tensors[str(node.target)] = value
                elif not isinstance(value, nn.Module):
                    raise _Unknown
        else:
            own = [_name(type(module)), self._attributes(module)]
        return {
            "own": own,
            "tensors": [[n, self._tensor(x)] for n, x in sorted(tensors.items())],
            "children": [
                [name, None if child is None else self.module(child)]
                for name, child in module._modules.items()
            ],
        }

    def _attributes(self, module: nn.Module) -> Any:
        return [
            [name, self._tensor(x) if isinstance(x, Tensor) else _plain(x)]
            for name, x in sorted(vars(module).items())
            if name not in _OF_EVERY_MODULE
        ]

    def _tensor(self, tensor: Tensor | None) -> Any:
        if tensor is None:
            return None
        if id(tensor) not in self._digests:
            _check_tensor(tensor)
            data = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
            self._digests[id(tensor)] = [
                str(tensor.dtype),
                list(tensor.shape),
                list(tensor.stride()),
                hashlib.sha256(data.data).hexdigest(),
            ]
        return self._digests[id(tensor)]


def _check_tensor(tensor: Tensor) -> None:
    known = type(tensor) in (Tensor, nn.Parameter, nn.Buffer)
    if not known or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise _Unknown
    if tensor.is_neg() or tensor.is_conj() or tensor.is_quantized:
        raise _Unknown


def _code(module: fx.GraphModule) -> str:
    if fx.GraphModule not in (type(module), *type(module).__bases__):
        raise _Unknown
    for node in module.graph.nodes:
        if node.op == "call_function":
            _name(node.target)
    return module.code


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _name(target: Any) -> str:
    """Name of a class or function of torch, ours or Python's own."""
    if isinstance(target, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        if str(target).partition(".")[0] not in _NAMESPACES:
            raise _Unknown
        return str(target)
    module = getattr(target, "__module__", None) or type(target).__module__
    if str(module).partition(".")[0] not in _TRUSTED:
        raise _Unknown
    name = getattr(target, "__qualname__", None) or getattr(target, "__name__", None)
    if name is None or "<" in name:  # made in a function: it may hold anything
        raise _Unknown
    return f"{module}.{name}"


def _plain(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return [type(value).__name__, repr(value)]
    if isinstance(value, tuple | list | torch.Size):
        return [type(value).__name__, *map(_plain, value)]
    if isinstance(value, dict):
        return ["dict", *([_plain(k), _plain(v)] for k, v in value.items())]
    if isinstance(value, _NAMED):
        return str(value)
    if callable(value) and not isinstance(value, nn.Module):
        return _name(value)
    raise _Unknown


def _add_folder(found: Any, root: Path) -> None:
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            data = path.read_bytes()
            found.update(f"{path.relative_to(root)} {len(data)}\n".encode())
            found.update(data)
