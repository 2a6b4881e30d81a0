"""A network cut anywhere computes the same; memory by hand; opaque calls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gos_fx.errors import VerifyError
from gos_fx.ir.parser import parse
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.fold_batch_norm import fold_batch_norm
from gos_fx.passes.make_opaque import OpaqueOperator, make_opaque
from gos_fx.passes.memory import activation_bytes, weight_bytes
from gos_fx.passes.operators import find_operators
from gos_fx.passes.split import split_before
from gos_fx.passes.trace import trace


class Branches(nn.Module):
    """Two inputs, one of which is needed late; a parameter of its own; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(4, 1, 1))
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        a = self.one(x)
        b = self.two(a * self.gain) + a
        return b + y, (b * self.gain).mean((2, 3))


def test_residual_cut_at_every_node(residual: nn.Module, images: Tensor) -> None:
    traced = trace(residual, (images,))
    with torch.no_grad():
        expected = residual(images)
        for node in traced.graph.nodes:
            split = split_before(traced, node.name)
            found = split.suffix(*split.prefix(images))
            assert torch.equal(found, expected), node.name
            assert node.name in {n.name for n in split.suffix.graph.nodes}


def test_branches_cut_at_every_node() -> None:
    model = Branches().eval()
    inputs = (torch.randn(2, 3, 5, 5), torch.randn(2, 4, 5, 5))
    traced = trace(model, inputs)
    with torch.no_grad():
        expected = model(*inputs)
        for node in traced.graph.nodes:
            split = split_before(traced, node.name)
            found = split.suffix(*split.prefix(*inputs))
            for have, want in zip(found, expected, strict=True):
                assert torch.equal(have, want), node.name


def test_halves_share_their_modules(residual: nn.Module, images: Tensor) -> None:
    traced = trace(residual, (images,))
    split = split_before(traced, "conv2")
    assert split.prefix.get_submodule("conv1") is traced.get_submodule("conv1")
    assert split.suffix.get_submodule("conv2") is traced.get_submodule("conv2")
    assert not any(name == "conv2" for name, _ in split.prefix.named_modules())
    # What crosses: the map that both the convolution and the shortcut read.
    (crossing,) = split.prefix(images)
    assert tuple(crossing.shape) == (2, 8, 9, 10)


def test_memory_by_hand() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1, bias=False)
            self.c = nn.Conv2d(2, 8, 1)
            self.c.weight.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)  # 3 + 8 alive
            z = self.b(y)  # 8 + 2: y is read once more
            z = self.c(z)  # 8 + 2 + 8
            return y + z  # 8 + 8 + 8, the peak

    traced = trace(Net().eval(), (torch.randn(1, 3, 4, 5),))
    assert activation_bytes(traced) == 4 * (8 + 8 + 8) * 4 * 5
    assert weight_bytes(traced) == 4 * ((24 + 8) + 16 + (16 + 8))


def test_memory_of_a_chain_and_of_shared_weights() -> None:
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.Linear(6, 20), nn.Linear(20, 6), layer).eval()
    traced = trace(model, (torch.randn(2, 6),))
    assert activation_bytes(traced) == 4 * 2 * (6 + 20)
    assert weight_bytes(traced) == 4 * (42 + 140 + 126)
    norm = nn.Sequential(nn.BatchNorm2d(3)).eval()
    norm = trace(norm, (torch.randn(1, 3, 2, 2),))
    assert weight_bytes(norm) == 4 * 4 * 3  # its integer counter is no weight


def test_opaque_form(residual: nn.Module, images: Tensor) -> None:
    opaque = make_opaque(residual, (images,))
    operators = [m for m in opaque.modules() if isinstance(m, OpaqueOperator)]
    assert len(operators) == 7
    assert [v.name for v in parse(operators[0].graph).weights] == ["w", "b"]
    with torch.no_grad():
        torch.testing.assert_close(
            opaque(images), residual(images), rtol=1e-4, atol=1e-5
        )
    program = torch.export.export(opaque, (images,))
    calls = [n for n in program.graph.nodes if "gos_fx.operator" in str(n.target)]
    assert len(calls) == 7
    assert [n.meta["val"].shape for n in calls][:2] == [(2, 8, 9, 10), (2, 8, 5, 5)]
    left = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    assert left == {"gos_fx.operator.default", "aten.add.Tensor"}


def test_opaque_form_of_an_optimized_network(
    residual: nn.Module, images: Tensor
) -> None:
    """Emitted operators are lowered from the graph they carry, schedule included."""
    traced = trace(residual, (images,))
    fold_batch_norm(traced)
    op = find_operators(traced)[0]
    assert op.template is not None
    text = op.template.text.replace("return v3", "v4 = tile(v3, co=4)\n    return v4")
    module = emit_operator(parse(text), op.bindings, op.weights)
    changed = replace_operators(traced, [(op, module)])
    opaque = make_opaque(changed, (images,))
    operator = opaque.get_submodule("conv1")
    assert isinstance(operator, OpaqueOperator)
    assert "tile(v3, co=4)" in operator.graph
    (relu,) = [n for n in module.graph.nodes if "relu" in str(n.target)]
    relu.target = torch.tanh
    module.recompile()
    with pytest.raises(VerifyError, match="the code was edited"):
        make_opaque(changed, (images,))
