"""Tracing: shapes on every node; what cannot be traced is named or left as it is."""

from __future__ import annotations

import inspect
import logging
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gos_fx.errors import BadExampleInputs, UntraceableModel
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.passes.trace import UNTRACED, as_arguments, trace


class Branching(nn.Module):
    """Its control flow depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1


class BranchingModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if y.mean() > 0:
            y = y + 1
        return self.second(y.mean((2, 3)))


class WithBranchingPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.gates = nn.Sequential(nn.ReLU(), Branching())
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gates(self.first(x)))


def line_of(cls: type, text: str) -> int:
    lines, first = inspect.getsourcelines(cls)
    return first + next(i for i, line in enumerate(lines) if text in line)


def test_every_node_has_a_shape(residual: nn.Module, images: Tensor) -> None:
    traced = trace(residual, (images,))
    for node in traced.graph.nodes:
        assert "tensor_meta" in node.meta
    nodes = {node.name: node for node in traced.graph.nodes}
    assert nodes["conv2"].meta["tensor_meta"].shape == (2, 8, 5, 5)
    with torch.no_grad():
        assert torch.equal(traced(images), residual(images))


def test_the_model_itself_is_untouched(residual: nn.Module, images: Tensor) -> None:
    before = {k: v.clone() for k, v in residual.state_dict().items()}
    modules = dict(residual.named_modules())
    traced = trace(residual, (images,))
    with torch.no_grad():
        for parameter in traced.parameters():
            parameter.zero_()
    after = residual.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert dict(residual.named_modules()) == modules
    assert not any(p is q for p in residual.parameters() for q in traced.parameters())


def test_an_untraceable_root_names_line_and_layers() -> None:
    with pytest.raises(UntraceableModel) as caught:
        trace(BranchingModel().eval(), (torch.randn(1, 3, 5, 5),))
    error = caught.value
    assert "BranchingModel.forward" in error.what
    line = line_of(BranchingModel, "if y.mean() > 0")
    assert error.where.endswith(f"test_trace.py:{line}")
    assert "first, second can be optimized" in error.do


def test_an_untraceable_part_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    model, x = WithBranchingPart().eval(), torch.randn(2, 3, 5, 5)
    with caplog.at_level(logging.WARNING, "gos_fx"):
        traced = trace(model, (x,))
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == [
        *("first", "gates.0", "gates.1", "last"),
    ]
    (name,) = traced.meta[UNTRACED]
    line = line_of(Branching, "if x.sum() > 0")
    assert name == "gates.1" and f"test_trace.py:{line}" in traced.meta[UNTRACED][name]
    assert "gates.1 stays as it is" in caplog.text
    with torch.no_grad():
        for sign in (1, -1):  # both of its branches are still there
            torch.testing.assert_close(traced(sign * x), model(sign * x))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(
        self, left: Tensor, right: Tensor, scale: float = 2.0, mask: Any = None
    ) -> dict[str, Tensor]:
        y = self.layer(left) * scale
        return {"sum": y + right if mask is None else y * mask, "left": y}


def test_dict_inputs_and_outputs() -> None:
    model = TwoInputs().eval()
    left, right = torch.randn(3, 4), torch.randn(3, 2)
    arguments = as_arguments(model, {"right": right, "left": left})
    assert arguments[0] is left and arguments[1] is right
    traced = trace(model, arguments)
    with torch.no_grad():
        expected, found = model(left, right), traced(left, right)
    assert set(found) == {"sum", "left"}
    assert torch.equal(found["sum"], expected["sum"])
    flagged = as_arguments(model, {"left": left, "right": right, "scale": 3.0})
    with torch.no_grad():
        assert torch.equal(
            trace(model, flagged)(*flagged)["sum"], model(*flagged)["sum"]
        )


def test_names_of_inputs_are_checked() -> None:
    model, x = TwoInputs(), torch.randn(3, 4)
    with pytest.raises(BadExampleInputs, match="forward has no parameter up"):
        as_arguments(model, {"left": x, "up": x})
    with pytest.raises(BadExampleInputs, match="forward needs left"):
        as_arguments(model, {"right": x})


def test_inputs_of_the_wrong_shape(residual: nn.Module) -> None:
    with pytest.raises(BadExampleInputs) as caught:
        trace(residual, (torch.randn(1, 4, 9, 9),))
    assert "(1, 4, 9, 9)" in caught.value.what and "3 channels" in caught.value.what
    assert "Residual.forward" in caught.value.where
    assert caught.value.do


class Repeated(nn.Module):
    """One pooling and one activation for several places, as many small nets have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(x))
        return self.pool(y) + self.act(self.pool(y[:, :, ::2, ::2]))


def test_a_module_without_weights_has_a_name_for_each_call() -> None:
    model, x = Repeated().eval(), torch.randn(2, 3, 8, 8)
    traced = trace(model, (x,))
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == [
        *("conv", "act", "pool", "pool_1", "act_1"),
    ]
    assert traced.get_submodule("pool_1") is not traced.get_submodule("pool")
    with torch.no_grad():
        assert torch.equal(traced(x), model(x))
        # Both sizes of its input survive the way to the code generator.
        opaque = make_opaque(model, (x,))
        torch.testing.assert_close(opaque(x), model(x), rtol=1e-5, atol=1e-6)


def test_a_module_with_weights_keeps_its_one_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act_1 = nn.Conv2d(3, 3, 1), nn.Tanh()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(self.act(self.conv(x)))
            return self.act(y) + self.act_1(y)

    traced = trace(Tied().eval(), (torch.randn(1, 3, 4, 4),))
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == [
        *("conv", "act", "conv", "act_2", "act_1"),
    ]
    assert len(list(traced.parameters())) == 2


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor, more: Tensor | None = None) -> Tensor:
        y: Tensor = self.layer(x)
        return y if more is None else y + more


def test_a_pickled_trace_leaves_tracing_as_it_is() -> None:
    model, x = Optional().eval(), torch.randn(2, 3)
    again = pickle.loads(pickle.dumps(trace(model, (x,))))
    assert torch.equal(again(x), trace(model, (x,))(x))
