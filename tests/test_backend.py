"""torch.compile(backend="gos_fx"): right, or eager with the reason."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx import backend
from gos_fx.backend import FallbackWarning, gos_fx
from gos_fx.errors import BadOption, CompileError

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))


class Network(nn.Module):
    """A linear layer, then a function of the case."""

    def __init__(self, function: Callable[[Tensor], Any] = torch.relu) -> None:
        super().__init__()
        self.function = function
        self.linear = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Any:
        return self.function(self.norm(self.linear(x)))


@torch.library.custom_op("gos_fx_tests::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


class Interpreted:
    """In the place of compiled code where the case is not about the code."""

    def __init__(self) -> None:
        self.networks: list[torch.fx.GraphModule] = []
        self.change = 0.0

    def __call__(self, network: Any, inputs: Any, target: Any, threads: int) -> Any:
        self.networks.append(network)
        assert all(isinstance(x, Tensor) for x in inputs)

        def host_module(*args: Tensor) -> list[Tensor]:
            with torch.no_grad():
                return [y + self.change for y in network(*args)]

        return type("Compiled", (), {"host_module": staticmethod(host_module)})()


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Interpreted:
    made = Interpreted()
    monkeypatch.setattr(backend, "compile_network", made)
    return made


def check(compiled: Callable[..., Any], model: nn.Module, *args: Any) -> list[str]:
    """Compare with eager, without gradients; gives what it warned of."""
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FallbackWarning)
        found = compiled(*args)
        torch.testing.assert_close(found, model(*args), rtol=1e-4, atol=1e-5)
    return [str(w.message) for w in caught if w.category is FallbackWarning]


def test_resnet18_is_our_operators_and_equals_eager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed (extra test)")
    from benchmarks.torchvision_models import network

    seen = []
    real = backend.compile_network

    def compile_network(given: Any, *rest: Any) -> Any:
        seen.append(given)
        return real(given, *rest)

    monkeypatch.setattr(backend, "compile_network", compile_network)
    model = network("resnet18")
    x = torch.randn(1, 3, 64, 64)
    compiled = torch.compile(model, backend="gos_fx")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        found, expected = compiled(x), model(x)
        again = compiled(2 * x)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * scale)
    assert not torch.equal(again, found)
    (given,) = seen
    kinds = {type(m).__name__ for m in given.modules() if not list(m.children())}
    assert kinds == {"OpaqueOperator"}
    functions = {n.target.__name__ for n in given.graph.nodes if "function" in n.op}
    assert functions == {"add"}


def test_by_name_in_a_process_that_did_not_import_it() -> None:
    code = """
import sys, torch, warnings
warnings.simplefilter("error", UserWarning)
def f(x):
    x = torch.relu(x)
    torch._dynamo.graph_break()
    return x * 2
assert "gos_fx" not in sys.modules
compiled = torch.compile(f, backend="gos_fx", mode="max-autotune")
x = torch.randn(3, 4)
assert torch.equal(compiled(x), f(x))
import gos_fx.backend
print("done")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "done\n", run.stderr


def test_a_missing_operator_is_named() -> None:
    model = Network(lambda x: torch.fft.fft(x).abs()).eval()
    compiled = torch.compile(model, backend="gos_fx")
    (message,) = check(compiled, model, X)
    assert message == (
        "gos_fx runs a graph in eager PyTorch: TVM has no '_fft_r2c.default' "
        "(it calls abs, fft_fft)"
    )
    assert check(compiled, model, X) == []  # said once


def test_a_custom_operator_is_named() -> None:
    model = Network(twice).eval()
    (message,) = check(torch.compile(model, backend="gos_fx"), model, X)
    assert "it calls twice" in message


def test_a_custom_autograd_function(interpreted: Interpreted) -> None:
    model = Network(Cube.apply).eval()
    assert check(torch.compile(model, backend="gos_fx"), model, X) == []
    assert len(interpreted.networks) == 1


def test_each_graph_around_a_break(interpreted: Interpreted) -> None:
    def branches(x: Tensor) -> Tensor:
        x = x * 2
        return x + 1 if float(x.sum()) > 1e9 else x.relu() @ x.T

    model = Network(branches).eval()
    assert check(torch.compile(model, backend="gos_fx"), model, X) == []
    assert len(interpreted.networks) >= 2


def test_one_compilation_for_each_shape(interpreted: Interpreted) -> None:
    """The second shape gives a graph with a symbolic size, which is bound."""
    model = Network(lambda x: (x.view(x.shape[0] * 2, 3), x.shape[0] + 1)).eval()
    compiled = torch.compile(model, backend="gos_fx")
    for rows in (4, 5, 7, 5, 4):
        assert check(compiled, model, torch.randn(rows, 6)) == []
    assert len(interpreted.networks) == 4  # 4 again, behind the guard of the first


def test_too_many_shapes(
    interpreted: Interpreted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "LIMIT", 2)
    model = Network().eval()
    compiled = torch.compile(model, backend="gos_fx", dynamic=True)
    found = [check(compiled, model, torch.randn(n, 6)) for n in range(2, 6)]
    assert found[:2] == [[], []] and found[3] == []
    assert "compiled for 2 shapes" in found[2][0]
    assert len(interpreted.networks) == 2


def test_changed_weights_are_noticed(interpreted: Interpreted) -> None:
    model, other = Network().eval(), Network().eval()
    compiled = torch.compile(model, backend="gos_fx")
    assert check(compiled, model, X) == []
    with torch.no_grad():
        model.linear.weight.mul_(2)
    assert check(compiled, model, X) == []
    model.load_state_dict(other.state_dict())
    assert check(compiled, model, X) == []
    model.norm.running_mean = torch.ones(6)
    assert check(compiled, model, X) == []
    # guards do not tell two networks of one class apart
    assert check(torch.compile(other, backend="gos_fx"), other, X) == []
    assert len(interpreted.networks) == 5


def test_gradients_and_training_run_eager(interpreted: Interpreted) -> None:
    model = Network().eval()
    compiled = torch.compile(model, backend="gos_fx")
    with pytest.warns(FallbackWarning, match="gradients are on"):
        compiled(X).sum().backward()
    assert model.linear.weight.grad is not None
    model.requires_grad_(False)
    torch.testing.assert_close(compiled(X), model(X))
    assert len(interpreted.networks) == 1
    model.train()
    with torch.no_grad(), pytest.warns(FallbackWarning, match="batch_norm is in train"):
        compiled(X)
    assert int(model.norm.num_batches_tracked) == 1
    assert len(interpreted.networks) == 1


def double_in_place(x: Tensor) -> Tensor:
    x.mul_(2)
    return x + 1


@pytest.mark.parametrize(
    ("function", "x", "message"),
    [
        (lambda x: x.relu_() + 1, X, "it writes to"),
        (double_in_place, X, "it writes to"),
        (lambda x: x.view(-1), X, "shares the memory of l_"),
        (lambda x: F.dropout(x, training=True) + 1, X, "dropout is in training"),
        (lambda x: F.dropout(x + 1, 0.1), X, "it draws random numbers"),
        (lambda x: x + torch.rand_like(x), X, "it draws random numbers"),
        (lambda x: x * 2, X.bfloat16(), "a tensor of torch.bfloat16"),
        (lambda x: x * 2, X.to_sparse(), "Sparse"),
    ],
)
def test_what_must_run_eager(
    interpreted: Interpreted,
    function: Callable[[Tensor], Any],
    x: Tensor,
    message: str,
) -> None:
    compiled = torch.compile(function, backend="gos_fx")
    mine, theirs = x.clone(), x.clone()
    torch.manual_seed(0)
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FallbackWarning)
        found = compiled(mine)
    torch.manual_seed(0)
    expected = function(theirs)
    if not x.is_sparse:  # dynamo itself leaves sparse tensors alone
        assert message in " ".join(str(w.message) for w in caught)
        torch.testing.assert_close((found, mine), (expected, theirs))
    assert interpreted.networks == []


def test_autocast_runs_eager(interpreted: Interpreted) -> None:
    model = Network().eval()
    compiled = torch.compile(model, backend="gos_fx")
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in check(compiled, model, X)[0]


def test_inference_mode(interpreted: Interpreted) -> None:
    model = Network().eval()
    compiled = torch.compile(model, backend="gos_fx")
    with torch.inference_mode():
        assert check(compiled, model, X.clone()) == []
        made = Network().eval()
        again = torch.compile(made, backend="gos_fx")
        assert "inference_mode" in check(again, made, X)[0]


def test_wrong_code_is_not_used(interpreted: Interpreted) -> None:
    model = Network().eval()
    interpreted.change = 1e-2
    compiled = torch.compile(model, backend="gos_fx")
    (message,) = check(compiled, model, X)
    assert re.search(r"differs by 1\.0e-02 of .* \(output 0\)", message)


def test_inputs_of_one_value_are_checked_with_noise(interpreted: Interpreted) -> None:
    """Code that is wrong by a factor is right for zeros."""
    model = Network(lambda x: x * 1).eval()
    with torch.no_grad():
        model.linear.bias.zero_()
    interpreted.change = 1e-30
    compiled = torch.compile(model, backend="gos_fx")
    assert check(compiled, model, torch.zeros(4, 6)) == []


def test_code_that_fails_later_is_given_up(interpreted: Interpreted) -> None:
    model = Network().eval()
    compiled = torch.compile(model, backend="gos_fx")
    assert check(compiled, model, X) == []
    interpreted.change = "no number"  # type: ignore[assignment]
    (message,) = check(compiled, model, X)
    assert "the compiled code failed" in message
    assert check(compiled, model, X) == []


def test_a_compiler_that_dies(
    interpreted: Interpreted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any) -> Any:
        raise CompileError("the compiler died of SIGSEGV", where="stage compile")

    monkeypatch.setattr(backend, "compile_network", die)
    model = Network().eval()
    (message,) = check(torch.compile(model, backend="gos_fx"), model, X)
    assert "SIGSEGV (stage compile)" in message


def test_options(interpreted: Interpreted) -> None:
    graph = torch.fx.symbolic_trace(lambda x: (x + 1,))
    assert gos_fx(graph, [X], options={"threads": 1}).threads == 1
    assert gos_fx(graph, [X], mode="reduce-overhead").threads >= 1
    for options in ({"thread": 1}, {"threads": 0}, {"threads": True}):
        with pytest.raises(BadOption, match="thread"):
            gos_fx(graph, [X], options=options)
    model = Network().eval()
    assert check(
        torch.compile(model, backend="gos_fx", options={"threads": 1}), model, X
    ) == []
