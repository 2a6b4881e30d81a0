"""GraphModule <-> JSON. Reading never imports or calls what the file names freely."""

from __future__ import annotations

import inspect
import operator
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import TensorMetadata

from gos_fx.errors import DamagedRunDirectory, Unsupported

# Functions a file may name: arithmetic, torch's own operators, torch.nn.functional.
# What reads files, loads libraries or compiles is not among them.
_FORBIDDEN = frozenset(("from_file", "load", "save", "compile", "frombuffer"))
_METHODS_FORBIDDEN = frozenset(("apply_", "map_", "register_hook", "share_memory_"))
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_ATTRIBUTES = frozenset(("shape", "dtype", "device", "T", "mT", "ndim", "real", "imag"))


def network_to_json(network: fx.GraphModule) -> dict[str, Any]:
    """Nodes and module settings as plain data, without weights.

    Raises:
        Unsupported: the network holds a module or a function that cannot be rebuilt
            without running code.
    """
    modules = dict(network.named_modules())
    used = {
        str(node.target): module_to_json(modules[str(node.target)], str(node.target))
        for node in network.graph.nodes
        if node.op == "call_module"
    }
    return {
        "name": type(network).__name__,
        "nodes": [_node_to_json(node) for node in network.graph.nodes],
        "modules": used,
    }


def network_from_json(
    data: dict[str, Any], weights: dict[str, torch.Tensor]
) -> fx.GraphModule:
    """The network of :func:`network_to_json` with its tensors by qualified name.

    Raises:
        DamagedRunDirectory: the data name something that is not allowed, or do not
            fit the weights.
    """
    try:
        root = nn.Module()
        for name, settings in data["modules"].items():
            _place(root, name, module_from_json(settings))
        graph = fx.Graph()
        nodes: dict[str, fx.Node] = {}
        for item in data["nodes"]:
            nodes[item["name"]] = _node_from_json(item, graph, nodes, root, weights)
        network = fx.GraphModule(root, graph, str(data["name"]))
        network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedRunDirectory(
            f"the network cannot be rebuilt: {first}", where="network"
        ) from error
    return network.eval()


def module_to_json(module: nn.Module, where: str) -> dict[str, Any]:
    """Type and constructor arguments of one of torch's own modules."""
    kind = type(module)
    if getattr(nn, kind.__name__, None) is not kind:
        raise Unsupported(
            f"{kind.__name__} is not one of torch.nn's modules, so it cannot be saved "
            "without code",
            where=where,
            do="save it with torch.save or pickle, and load only what you trust",
        )
    arguments = {}
    for name, parameter in _parameters(kind).items():
        if name in ("self", "device", "dtype") or parameter.kind in _VARIADIC:
            continue
        if not hasattr(module, name):
            if parameter.default is parameter.empty:
                raise Unsupported(f"{kind.__name__} does not keep {name}", where=where)
            continue
        value = getattr(module, name)
        if isinstance(value, torch.Tensor) or name == "bias":
            value = value is not None and value is not False
        arguments[name] = _encode(value, where)
    return {"type": kind.__name__, "arguments": arguments}


def _parameters(kind: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """What a constructor takes; recurrent layers hand on what their base does."""
    found = dict(inspect.signature(kind).parameters)
    if issubclass(kind, nn.RNNBase):
        found |= inspect.signature(nn.RNNBase).parameters
        del found["mode"]
        if kind is not nn.LSTM:
            del found["proj_size"]
    if kind is nn.RNN:
        nonlinearity = inspect.Parameter("nonlinearity", inspect.Parameter.KEYWORD_ONLY)
        found["nonlinearity"] = nonlinearity
    return found


def module_from_json(data: dict[str, Any]) -> nn.Module:
    """One of torch's own modules in eval mode.

    Raises:
        DamagedRunDirectory: any other type.
    """
    kind = getattr(nn, str(data["type"]), None)
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise DamagedRunDirectory(f"torch.nn has no module {data['type']!r}")
    arguments = {str(k): _decode(v, {}) for k, v in data["arguments"].items()}
    module: nn.Module = kind(**arguments)
    return module.eval()


def _node_to_json(node: fx.Node) -> dict[str, Any]:
    target = node.target
    if node.op == "call_function":
        target = _function_name(target, node.name)
    return {
        "name": node.name,
        "op": node.op,
        "target": target,
        "args": _encode(node.args, node.name),
        "kwargs": _encode(dict(node.kwargs), node.name),
        "tensors": _tensors_to_json(node.meta.get("tensor_meta")),
    }


def _tensors_to_json(meta: Any) -> Any:
    """Shape and type of what a node gives: by them operators are found again."""
    if hasattr(meta, "shape"):
        return {"shape": list(meta.shape), "dtype": str(meta.dtype)}
    if isinstance(meta, tuple | list):
        return [_tensors_to_json(item) for item in meta]
    return None


def _tensors_from_json(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(_tensors_from_json(item) for item in data)
    if data is None:
        return None
    dtype = getattr(torch, str(data["dtype"]).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise DamagedRunDirectory(f"there is no type {data['dtype']!r}")
    shape = torch.Size([int(size) for size in data["shape"]])
    return TensorMetadata(shape, dtype, False, (), None, False, {})


_OPERATIONS = frozenset(
    (
        *("placeholder", "get_attr", "output"),
        *("call_module", "call_function", "call_method"),
    )
)


def _node_from_json(
    item: dict[str, Any],
    graph: fx.Graph,
    nodes: dict[str, fx.Node],
    root: nn.Module,
    weights: dict[str, torch.Tensor],
) -> fx.Node:
    op, target = item["op"], item["target"]
    if op not in _OPERATIONS:
        raise DamagedRunDirectory(f"there is no operation {op!r}")
    if op == "call_function":
        target = _function(str(target))
    elif op == "call_method":
        allowed = hasattr(torch.Tensor, target) and not target.startswith("_")
        if not allowed or target in _METHODS_FORBIDDEN:
            raise DamagedRunDirectory(f"the method {target!r} is not allowed")
    elif op == "get_attr":
        value = weights[target]
        wrapped = nn.Parameter(value) if value.is_floating_point() else nn.Buffer(value)
        _place(root, target, wrapped)
    args, kwargs = _decode(item["args"], nodes), _decode(item["kwargs"], nodes)
    if target is getattr and args[1] not in _ATTRIBUTES:
        raise DamagedRunDirectory(f"the attribute {args[1]!r} is not allowed")
    node = graph.create_node(op, target, args, kwargs, name=item["name"])
    if (tensors := _tensors_from_json(item.get("tensors"))) is not None:
        node.meta["tensor_meta"] = tensors
    return node


_NAMESPACES: dict[str, Any] = {
    "operator": operator,
    "torch": torch,
    "torch.nn.functional": nn.functional,
}


def _allowed(namespace: str, name: str) -> Any:
    if name.startswith("_") or name in _FORBIDDEN:
        return None
    function = getattr(_NAMESPACES[namespace], name, None)
    if namespace == "torch" and not hasattr(torch._C._VariableFunctions, name):
        return None
    if not callable(function) or inspect.isclass(function):
        return None
    return function


def _function_name(function: Any, where: str) -> str:
    if function is getattr:
        return "getattr"
    name = getattr(function, "__name__", "")
    for namespace in _NAMESPACES:
        if _allowed(namespace, name) is function:
            return f"{namespace}.{name}"
    raise Unsupported(
        f"the function {name or function} cannot be saved without code", where=where
    )


def _function(text: str) -> Any:
    if text == "getattr":
        return getattr
    namespace, _, name = text.rpartition(".")
    function = _allowed(namespace, name) if namespace in _NAMESPACES else None
    if function is None:
        raise DamagedRunDirectory(f"the function {text!r} is not allowed")
    return function


def _encode(value: Any, where: str) -> Any:
    """Plain data; what JSON lacks is a one-entry object."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return (
            value
            if value == value and abs(value) != float("inf")
            else {"float": str(value)}
        )
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, where) for item in value]}
    if isinstance(value, list):
        return [_encode(item, where) for item in value]
    if isinstance(value, dict):
        return {"dict": [[str(k), _encode(v, where)] for k, v in value.items()]}
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        return {"slice": [_encode(part, where) for part in parts]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    raise Unsupported(f"{type(value).__name__} cannot be saved without code", where)


def _decode(value: Any, nodes: dict[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_decode(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "float":
        return float(inner)
    if kind == "node":
        return nodes[inner]
    if kind == "tuple":
        return tuple(_decode(item, nodes) for item in inner)
    if kind == "dict":
        return {str(k): _decode(v, nodes) for k, v in inner}
    if kind == "slice":
        return slice(*(_decode(item, nodes) for item in inner))
    if kind == "dtype":
        found = getattr(torch, str(inner), None)
        if isinstance(found, torch.dtype):
            return found
    raise DamagedRunDirectory(f"unknown entry {kind!r}")


def _place(root: nn.Module, name: str, value: nn.Module | torch.Tensor) -> None:
    *path, leaf = name.split(".")
    parent = root
    for part in path:
        if part not in parent._modules:
            parent.add_module(part, nn.Module())
        parent = parent.get_submodule(part)
    setattr(parent, leaf, value)
