"""``torch.compile(model, backend="gos_fx")``: exact rewrites and our code, here."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gos_fx.compiled import CompiledModel, compile_network
from gos_fx.errors import BadOption, CompileError, GosError, Unsupported
from gos_fx.passes.bind_inputs import bind_inputs
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.passes.modularize import modularize
from gos_fx.passes.replace_in_place import replace_in_place
from gos_fx.targets import target as target_table

# Largest difference to eager, as a share of the largest value: float32 sums in another
# order stay far below it, and a wrong rewrite does not.
TOLERANCE = 1e-4
# As dynamo's own recompile_limit: more shapes, or more changes of weights, run eager.
LIMIT = 8
_DTYPES = frozenset(
    (torch.float32, torch.float64, torch.int64, torch.int32, torch.bool, torch.uint8)
)
_PLAIN = (Tensor, nn.Parameter, nn.Buffer)
# Their value depends on data, or they change a state that the code would not see.
_REFUSED_METHODS = frozenset(("item", "tolist", "requires_grad_", "backward"))
# Functions of torch.nn.functional -> where `training` stands among the arguments.
_TRAINING = {"batch_norm": 5, "dropout": 2}


class FallbackWarning(UserWarning):
    """A graph runs in eager PyTorch; the message says for want of what."""


def gos_fx(
    gm: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Graph:
    """The compiler function of ``torch.compile(..., backend="gos_fx")``.

    For inference on this machine. The graph is compiled at its first call, once for
    each shape; what cannot be compiled runs in eager PyTorch, and a
    :class:`FallbackWarning` names what is missing. Weights become constants of the
    code. Writing to them (``load_state_dict``, an optimizer) or passing others is
    noticed and compiles again; writing through ``weight.data`` or numpy is not: call
    ``torch.compiler.reset()`` after that.

    Args:
        gm: a graph of dynamo.
        example_inputs: not used; they may be fake.
        mode: accepted for torch.compile's sake; there is one way to compile.
        options: ``{"threads": n}``, by default torch's number of threads, at most one
            for each core.

    Raises:
        BadOption: another option, or a number of threads that is none.
    """
    return Graph(gm, _threads(options or {}))


class Graph:
    """One graph of dynamo, compiled when it is called.

    Attributes:
        programs: by shapes and weights; None where they run in eager PyTorch.
    """

    def __init__(self, gm: fx.GraphModule, threads: int) -> None:
        self.graph_module, self.threads = gm, threads
        self.programs: dict[Any, Program | None] = {}
        self._placeholders = [n for n in gm.graph.nodes if n.op == "placeholder"]
        self._weights = [_is_weight(n) for n in self._placeholders]
        self._numbers = [_is_number(n) for n in self._placeholders]
        self._own = (*gm.parameters(), *gm.buffers())
        self._lock = threading.RLock()
        self._warned: set[str] = set()

    def __call__(self, *args: Any) -> Any:
        """The outputs of the graph as dynamo expects them: a list or a tuple."""
        if torch.is_grad_enabled() and any(
            x.requires_grad for x in (*args, *self._own) if isinstance(x, Tensor)
        ):
            return self._eager(args, "gradients are on; call it under torch.no_grad()")
        if torch.is_autocast_enabled("cpu"):
            return self._eager(args, "torch.autocast is on")
        try:
            key = self._key(args)
        except RuntimeError:  # their version is not tracked
            return self._eager(args, "weights were made under torch.inference_mode()")
        with self._lock:
            program = self._program(key, args)
            if program is not None:
                try:
                    return program(args)
                except Exception as error:  # whatever TVM raises
                    self.programs[key] = None
                    self._warn(f"the compiled code failed: {error}")
        return self.graph_module.forward(*args)

    def _key(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """What the code is made for: shapes, numbers, and the weights as they are."""
        found: list[Any] = [
            (id(x), x._version, x.data_ptr())
            if constant
            else (x.shape, x.dtype, x.device)
            if isinstance(x, Tensor)
            else x
            for x, constant in zip(self._known(args), self._weights, strict=True)
        ]
        found += [(x._version, x.data_ptr()) for x in self._own]
        return tuple(found)

    def _known(self, args: Sequence[Any]) -> list[Any]:
        """The arguments; tensors that dynamo wraps a float in are that float."""
        return [
            x.item() if number and isinstance(x, Tensor) else x
            for x, number in zip(args, self._numbers, strict=True)
        ]

    def _program(self, key: tuple[Any, ...], args: Sequence[Any]) -> Program | None:
        if key in self.programs:
            return self.programs[key]
        if len(self.programs) >= LIMIT:
            self._warn(f"it was compiled for {LIMIT} shapes or states of its weights")
            return None
        gm = self.graph_module
        try:
            with torch.inference_mode(False), torch.no_grad():
                self.programs[key] = self._compile(args)
        except GosError as error:
            self.programs[key] = None
            self._warn(str(error))
        # dynamo's graphs hold whatever Python calls: a bug of ours must not stop them
        except Exception as error:
            self.programs[key] = None
            first = (str(error).strip() or "no message").splitlines()[0]
            self._warn(f"{type(error).__name__}: {first} (of {_functions(gm)})")
        return self.programs[key]

    def _compile(self, args: Sequence[Any]) -> Program:
        _check_arguments(args)
        _check_nodes(self.graph_module)
        probe = [
            x if constant or not isinstance(x, Tensor) else _probe(x)
            for x, constant in zip(args, self._weights, strict=True)
        ]
        expected = self._reference(probe)
        constants, indices = {}, []
        for i, (node, value) in enumerate(
            zip(self._placeholders, self._known(args), strict=True)
        ):
            if not isinstance(value, Tensor) or self._weights[i]:
                constants[node.name] = value
            else:
                indices.append(i)
        network = bind_inputs(self.graph_module, constants)
        _keep_tensors(network, expected)
        inputs = tuple(probe[i] for i in indices)
        replace_in_place(network, inputs)
        modularize(network, inputs)
        network = make_opaque(network, inputs)
        host = target_table.get("host")
        try:
            compiled = compile_network(network, inputs, host, self.threads)
        except CompileError as error:
            raise Unsupported(_lacking(error, network)) from error
        program = Program(
            compiled,
            tuple(indices),
            tuple(None if isinstance(y, Tensor) else (y,) for y in expected),
            tuple(args[i] for i, constant in enumerate(self._weights) if constant),
        )
        for i, (y, z) in enumerate(zip(program(probe), expected, strict=True)):
            if isinstance(z, Tensor):
                _compare(i, y, z)
        return program

    def _reference(self, args: Sequence[Any]) -> Sequence[Any]:
        """What eager PyTorch computes, on copies.

        Raises:
            Unsupported: the graph does more than to compute outputs of its own.
        """
        copies = [x.detach().clone() if isinstance(x, Tensor) else x for x in args]
        state = torch.get_rng_state()
        outputs: Sequence[Any] = self.graph_module.forward(*copies)
        if not torch.equal(state, torch.get_rng_state()):
            torch.set_rng_state(state)
            raise Unsupported("it draws random numbers")
        taken: dict[int, str] = {}
        for node, x in zip(self._placeholders, copies, strict=True):
            if isinstance(x, Tensor):
                if x._version:
                    raise Unsupported(f"it writes to {node.name}")
                taken[x.untyped_storage()._cdata] = node.name
        for i, y in enumerate(outputs):
            if not isinstance(y, Tensor):
                continue
            if y.requires_grad:
                raise Unsupported("it turns on gradients")
            name = taken.setdefault(y.untyped_storage()._cdata, f"output {i}")
            if name != f"output {i}":
                raise Unsupported(f"output {i} shares the memory of {name}")
        if not any(isinstance(y, Tensor) for y in outputs):
            raise Unsupported("it returns no tensor")
        return outputs

    def _eager(self, args: Sequence[Any], reason: str) -> Any:
        self._warn(reason)
        return self.graph_module.forward(*args)

    def _warn(self, reason: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            message = f"gos_fx runs a graph in eager PyTorch: {reason}"
            warnings.warn(message, FallbackWarning, stacklevel=4)


@dataclass(frozen=True)
class Program:
    """Compiled code with how to call it.

    Attributes:
        inputs: which arguments it takes.
        outputs: one entry each: None for the next tensor of the code, or (value,).
        weights: held, so that none is freed and its address given to another.
    """

    compiled: CompiledModel
    inputs: tuple[int, ...]
    outputs: tuple[tuple[Any] | None, ...]
    weights: tuple[Tensor, ...]

    def __call__(self, args: Sequence[Any]) -> list[Any]:
        tensors = iter(self.compiled.host_module(*[args[i] for i in self.inputs]))
        return [next(tensors) if y is None else y[0] for y in self.outputs]


def _lacking(error: CompileError, network: fx.GraphModule) -> str:
    """The operator that is missing; else what may be, and the compiler's words."""
    if found := re.search(r"Unsupported function types \[(.*)\]", error.what):
        return f"TVM has no {found[1]} (it calls {_functions(network)})"
    return f"it does not compile (it calls {_functions(network)}): {error}"


def _functions(gm: fx.GraphModule) -> str:
    """Names of the torch functions and methods that a network calls."""
    names = {
        n.target if isinstance(n.target, str) else getattr(n.target, "__name__", "?")
        for n in gm.graph.nodes
        if n.op in ("call_function", "call_method")
    }
    return ", ".join(sorted(names)) or "its layers"


def _threads(options: Mapping[str, Any]) -> int:
    if unknown := sorted(set(options) - {"threads"}):
        raise BadOption(
            f"the backend gos_fx has no option {unknown[0]!r}",
            where="torch.compile, argument options",
            do="use threads",
        )
    cores = target_table.get("host").threads
    threads = options.get("threads", min(cores, torch.get_num_threads()))
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise BadOption(
            f"threads={threads!r}",
            where="torch.compile, argument options",
            do=f"give a number from 1 to {cores}",
        )
    return threads


def _is_weight(node: fx.Node) -> bool:
    """Parameters, buffers and other tensors of modules, as dynamo marks them."""
    marks = node.meta.get("tensor_dict") or {}
    return node.type is nn.Parameter or "_dynamo_static_input_type" in marks


def _is_number(node: fx.Node) -> bool:
    """Whether only the number in it is used: dynamo's form of a float that varies."""
    users = list(node.users) if node.op == "placeholder" else []
    return bool(users) and all(_reads_number(user) for user in users)


def _reads_number(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "item"


def _check_arguments(args: Sequence[Any]) -> None:
    for x in args:
        if not isinstance(x, Tensor):
            if not isinstance(x, int | float):
                raise Unsupported(f"an argument of type {type(x).__name__}")
            continue
        if type(x) not in _PLAIN:
            raise Unsupported(f"an argument of type {type(x).__name__}")
        if x.device.type != "cpu":
            raise Unsupported(f"a tensor on {x.device}; this machine's CPU is meant")
        if x.dtype not in _DTYPES:
            raise Unsupported(f"a tensor of {x.dtype}")
        if x.layout != torch.strided or x.is_neg():
            raise Unsupported(f"a tensor of layout {x.layout}")


def _check_nodes(gm: fx.GraphModule) -> None:
    for node in gm.graph.nodes:
        name = getattr(node.target, "__name__", str(node.target))
        if node.op == "call_method" and node.target in _REFUSED_METHODS:
            if _reads_number(node) and _is_number(node.args[0]):
                continue  # it is bound
            raise Unsupported(f"Tensor.{name}")
        trains = node.kwargs.get("training") is True
        if name in _TRAINING and len(node.args) > _TRAINING[name]:
            trains = node.args[_TRAINING[name]] is True
        if node.op == "call_function" and trains:
            raise Unsupported(f"{name} is in training mode; call model.eval()")


def _probe(x: Tensor) -> Tensor:
    """A copy; where it says nothing, because all of it is one value, noise."""
    x = x.detach().clone()
    if x.is_floating_point() and x.numel() > 1 and bool((x == x.flatten()[0]).all()):
        generator = torch.Generator().manual_seed(0)
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


def _keep_tensors(network: fx.GraphModule, expected: Sequence[Any]) -> None:
    """Numbers among the outputs are known; the code returns the tensors alone."""
    (output,) = (n for n in network.graph.nodes if n.op == "output")
    nodes = output.args[0]
    kept = [n for n, y in zip(nodes, expected, strict=True) if isinstance(y, Tensor)]
    output.args = (tuple(kept),)
    network.graph.lint()
    network.recompile()


def _compare(index: int, found: Tensor, expected: Tensor) -> None:
    where = f"output {index}"
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        raise Unsupported(
            f"the compiled code gives {found.dtype}{list(found.shape)}, not "
            f"{expected.dtype}{list(expected.shape)}",
            where,
        )
    if not expected.is_floating_point():
        if not torch.equal(found, expected):
            raise Unsupported("the compiled code gives other values", where)
        return
    finite = torch.isfinite(expected)
    scale = float(expected[finite].abs().max()) if bool(finite.any()) else 0.0
    if not torch.allclose(
        found, expected, rtol=0.0, atol=TOLERANCE * scale, equal_nan=True
    ):
        difference = float((found - expected).abs().nan_to_num().max())
        raise Unsupported(
            f"the compiled code differs by {difference:.1e} of {scale:.1e}", where
        )
