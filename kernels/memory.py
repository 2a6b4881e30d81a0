"""Memory that a compiled network takes, read from the code itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from tvm import DataType, relax
from tvm.ir.expr import GenericConst, GlobalVar

# A workspace, and a parallel loop, which LLVM has as a function of its own.
_WORKSPACE = re.compile(
    r"%([\w.]+) = (?:tail )?call ptr %\S+"
    r"\(i32 1, i32 [^,]+, i64 (\d+), i32 \d+, i32 \d+\)"
)
_LAMBDA = re.compile(r"@(__tvm_parallel_lambda[\w.]*)")
_FUNCTION = re.compile(r"^define .*?@([\w.\"]+)\(.*?^}", re.DOTALL | re.MULTILINE)


def network_memory(module: Any, code: str, threads: int) -> dict[str, int] | None:
    """Bytes of a compiled network, as TVM planned them.

    Args:
        module: Relax, after the last of its passes.
        code: LLVM's listing of the kernels.
        threads: that run a parallel loop; each has its own workspace.

    Returns:
        ``weights_bytes``: constants as packed, equal ones once. ``activation_bytes``:
        the largest sum of inputs and storages alive at one time. ``workspace_bytes``:
        what the kernel with most scratch memory has. ``peak_bytes``: their sum, with
        the workspace of each kernel counted while it runs. None where a size depends
        on the data.
    """
    scratch = workspaces(code, threads)
    try:
        walk = _Walk(module, scratch)
    except _Unknown:
        return None
    weights = sum(walk.constants.values())
    return {
        "weights_bytes": weights,
        "activation_bytes": walk.peak,
        "workspace_bytes": walk.scratch,
        "peak_bytes": weights + walk.peak_with_scratch,
    }


def workspaces(code: str, threads: int) -> dict[str, int]:
    """Scratch bytes of each kernel by its name.

    Workspaces of one function are alive together, its parallel loops run one after the
    other. Copies that LLVM makes of a call (``%pad.1``) are the same workspace.
    """
    own: dict[str, int] = {}
    loops: dict[str, set[str]] = {}
    for found in _FUNCTION.finditer(code):
        name, body = found[1], found[0]
        sizes = {at.partition(".")[0]: int(n) for at, n in _WORKSPACE.findall(body)}
        own[name] = sum(sizes.values())
        loops[name] = set(_LAMBDA.findall(body)) - {name}
    kernels: dict[str, int] = {}
    for name in own:
        if name.startswith("__tvm_parallel_lambda"):
            continue
        kernel = name.removeprefix("__tvm_ffi_").removesuffix("_compute_")
        inner = max((threads * own.get(loop, 0) for loop in loops[name]), default=0)
        kernels[kernel] = max(kernels.get(kernel, 0), own[name] + inner)
    return kernels


class _Unknown(Exception):
    """A size that is known only when the network runs."""


class _Walk:
    """The bindings of ``main`` in order, with the storages that each leaves alive.

    A storage lives until it and every tensor in it are killed. The caller holds the
    inputs all the time.
    """

    def __init__(self, module: Any, scratch: dict[str, int]) -> None:
        self._scratch = scratch
        self.constants: dict[str, int] = {}  # bytes by what is in them
        self._roots: dict[Any, frozenset[int]] = {}
        self._bytes: list[int] = []
        main = module["main"]
        self._inputs = sum(_tensor_bytes(x.ty) for x in main.params)
        self.peak = self.peak_with_scratch = self._inputs
        self.scratch = 0
        self._run(main.body)

    def _run(self, body: Any) -> None:
        for binding in _bindings(body):
            value = binding.value
            if isinstance(value, relax.If):
                before = dict(self._roots)
                self._run(value.true_branch)
                self._roots, before = before, self._roots
                self._run(value.false_branch)
                self._roots |= before
            self._roots[binding.var] = self._value(value)

    def _value(self, value: Any) -> frozenset[int]:
        """The storages that a value keeps alive."""
        if isinstance(value, relax.Tuple):
            return self._union(value.fields)
        if isinstance(value, relax.TupleGetItem):
            return self._union([value.tuple_value])
        if not isinstance(value, relax.Call):
            return self._union([value])
        for argument in value.args:
            if isinstance(argument, GenericConst):
                self._constant(argument.value)
        name = getattr(value.op, "name", None) or getattr(value.op, "global_symbol", "")
        if name == "relax.vm.alloc_storage":
            size = _product(value.args[0].values)
            self._bytes.append(size)
            root = frozenset([len(self._bytes) - 1])
            self._note(0, root)
            return root
        if name == "relax.vm.kill_object":
            self._roots.pop(value.args[0], None)
            return frozenset()
        if isinstance(value.op, GlobalVar):
            self._note(self._scratch.get(value.op.name_hint, 0))
            return frozenset()
        return self._union(value.args)

    def _union(self, values: Any) -> frozenset[int]:
        empty: frozenset[int] = frozenset()
        return empty.union(
            *(self._roots.get(v, empty) for v in values if isinstance(v, relax.Var))
        )

    def _note(self, scratch: int, more: frozenset[int] = frozenset()) -> None:
        alive = more.union(*self._roots.values())
        size = self._inputs + sum(self._bytes[i] for i in alive)
        self.peak = max(self.peak, size)
        self.scratch = max(self.scratch, scratch)
        self.peak_with_scratch = max(self.peak_with_scratch, size + scratch)

    def _constant(self, value: Any) -> None:
        if not hasattr(value, "numpy"):
            return  # a dtype
        data = value.numpy()
        found = hashlib.sha256(f"{data.dtype} {data.shape} ".encode())
        found.update(np.ascontiguousarray(data).data)
        self.constants[found.hexdigest()] = data.nbytes


def _bindings(body: Any) -> Iterator[Any]:
    for block in body.blocks:
        yield from block.bindings


def _tensor_bytes(ty: Any) -> int:
    if isinstance(ty, relax.TupleType):
        return sum(_tensor_bytes(field) for field in ty.fields)
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        return 0
    return _product(ty.shape.values) * int(DataType(str(ty.dtype)).itemsize)


def _product(values: Any) -> int:
    try:
        return prod(int(value) for value in values)
    except TypeError as error:
        raise _Unknown from error
