"""What a call of a module is given and gives: shapes, arguments, used results."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Call, Shape, Value

_NAMES = ("x", "y", "z")
_DTYPES = {torch.float32: "float32", torch.int64: "int64", torch.int32: "int32"}


def shape_of(node: Any) -> Shape:
    """The shape that the trace recorded.

    Raises:
        Unsupported: it is not one tensor of a type that maps have.
    """
    dtype_of(node)
    return tuple(int(dim) for dim in node.meta["tensor_meta"].shape)


def dtype_of(node: Any) -> str:
    """The type of numbers that the trace recorded.

    Raises:
        Unsupported: as :func:`shape_of`.
    """
    meta: Any = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    if not hasattr(meta, "shape"):
        raise Unsupported("it does not give exactly one tensor")
    if meta.dtype not in _DTYPES:
        raise Unsupported(f"it works on {meta.dtype}, not on float32")
    return _DTYPES[meta.dtype]


def input_name(index: int) -> str:
    """Of the feature map with this index: x, y, z, x_4, ..."""
    return _NAMES[index] if index < len(_NAMES) else f"x_{index + 1}"


Found = tuple[Call, tuple[str, ...], dict[str, str], tuple[str, ...]]


def called(node: fx.Node, module: nn.Module) -> Found:
    """The call of a module; the FX nodes of the call and of its results; the FX nodes
    of the maps by their names in the call; and those that carry the used results.

    Raises:
        Unsupported: an argument or a result is not known at this site.
    """
    inputs: dict[str, str] = {}
    values: dict[fx.Node, Value] = {}

    def given(source: fx.Node) -> Any:
        if source.op == "get_attr":
            assert source.graph.owning_module is not None
            return attribute(source.graph.owning_module, source)
        if "number" in source.meta:
            return source.meta["number"]
        if source not in values:
            name = input_name(len(values))
            values[source] = Value(name, shape_of(source), dtype_of(source))
            inputs[name] = source.name
        return values[source]

    arguments = _bound(node, module)
    results: list[Shape | None] = []
    leaves: list[fx.Node | None] = []
    nodes = [node]
    for meta, leaf in _leaves(node, node.meta.get("tensor_meta"), nodes):
        results.append(None if meta is None else tuple(int(d) for d in meta.shape))
        leaves.append(leaf)
    used = tuple(leaf is not None for leaf in leaves)
    if not any(used):
        raise Unsupported("nothing reads its result")
    call = Call(
        {name: fx.map_arg(value, given) for name, value in arguments.items()},
        tuple(results),
        used,
    )
    outputs = tuple(leaf.name for leaf in leaves if leaf is not None)
    return call, tuple(n.name for n in nodes), inputs, outputs


def attribute(owner: nn.Module, node: fx.Node) -> Any:
    """The module that a node calls, or what a ``get_attr`` node reads."""
    value: Any = owner
    for name in str(node.target).split("."):
        value = getattr(value, name)
    return value


def _bound(node: fx.Node, module: nn.Module) -> dict[str, Any]:
    signature = inspect.signature(type(module).forward)
    bound = signature.bind(module, *node.args, **node.kwargs)
    bound.apply_defaults()
    _, *rest = bound.arguments.items()
    return dict(rest)


def _leaves(
    node: fx.Node, meta: Any, nodes: list[fx.Node]
) -> Iterator[tuple[Any, fx.Node | None]]:
    """Each tensor of a nested result, and the node that takes it out if it is read."""
    if meta is None or hasattr(meta, "shape"):
        yield meta, node if node.users and meta is not None else None
        return
    parts = taken_out(node, len(meta))
    nodes += parts.values()
    for index, item in enumerate(meta):
        part = parts.get(index)
        if part is None:
            yield from ((found, None) for found in _flat(item))
        else:
            yield from _leaves(part, item, nodes)


def taken_out(node: fx.Node, length: int) -> dict[int, fx.Node]:
    """The nodes that take a tuple apart, by index in order.

    Raises:
        Unsupported: something reads the tuple as a whole.
    """
    parts: dict[int, fx.Node] = {}
    for user in node.users:
        index = user.args[1] if user.target is operator.getitem else None
        if not isinstance(index, int) or index % length in parts:
            raise Unsupported("its results are not taken apart")
        parts[index % length] = user
    return dict(sorted(parts.items()))


def _flat(meta: Any) -> Iterator[Any]:
    if meta is None or hasattr(meta, "shape"):
        yield meta
    else:
        for item in meta:
            yield from _flat(item)
