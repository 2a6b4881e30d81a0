"""Emitted modules: readable, trainable, and still knowing what they were made from."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.passes.emit import emit_operator, replace_operators
from gos_fx.passes.fold_batch_norm import fold_batch_norm
from gos_fx.passes.operators import find_operators
from gos_fx.passes.source import SOURCE, source_of
from gos_fx.passes.trace import trace

SITE = {
    "N": 2,
    "C_in": 4,
    "C_out": 6,
    "H": 8,
    "W": 7,
    "H_out": 4,
    "W_out": 4,
    "S_h": 2,
    "S_w": 2,
} | dict.fromkeys(("K_h", "K_w"), 3)
SITE |= dict.fromkeys(("P_h", "P_w", "D_h", "D_w"), 1)
TEMPLATES = {
    "everything": """\
def conv2d(x: map[N, C_in, H, W], *, w1: weight[C_in, 1, K_h, K_w] = depthwise(w), w2: weight[C_out, C_in, 1, 1] = pointwise(w), g: weight[C_in], b: weight[C_out], m: constant[C_out]) -> map[N, C_out, H_out, W_out]:
    v0 = cross_correlation(x, w1, stride=(S_h, S_w), dilation=(1, 1), groups=C_in)
    v1 = sum(v0, axis="ci")
    v2 = relu(v1, slope=0.01)
    v3 = cross_correlation(v2, w2, stride=(1, 1), dilation=(1, 1), groups=1)
    v4 = weighted_mean(v3, g, axis="ci")
    v5 = tile(v4, co=8)
    v6 = max(v3, axis="ci")
    v7 = sub(v5, m)
    v8 = add(v7, b)
    v9 = max_pool(v8, kernel=(2, 2), stride=(1, 1))
    v10 = mean(v9, v6)
    return v10""",  # noqa: E501
    "resized": """\
def conv2d(x: map[N, C_in, H, W], *, w: weight[C_out, C_in, K_h, K_w]) -> map[N, C_out, H_out, W_out]:
    v0 = avg_pool(x, kernel=(2, 2), stride=(2, 2), include_pad=False)
    v1 = cross_correlation(v0, w, stride=(1, 1), dilation=(2, 1), groups=1)
    v2 = sum(v1, axis="ci")
    v3 = resize(v2, size=(H_out, W_out))
    v4 = softmax(v3)
    return v4""",  # noqa: E501
    "flat": """\
def head(x: map[N, C_in, H, W], *, w: weight[C_out, C_in * H * W]) -> map[N, C_out]:
    v0 = reshape(x, shape=(N, C_in * H * W))
    v1 = transpose(w, axes=(1, 0))
    v2 = matmul(v0, v1)
    v3 = unroll(v2, ci=4)
    v4 = sigmoid(v3)
    return v4""",
}


def emitted(name: str) -> tuple[Graph, dict[str, Tensor], fx.GraphModule]:
    template = parse(TEMPLATES[name])
    generator = torch.Generator().manual_seed(0)
    weights = {
        v.name: torch.rand([int(d) for d in v.type.shape], generator=generator) + 0.1
        for v in template.instantiate(SITE).weights
    }
    return template, weights, emit_operator(template, SITE, weights)


def image(batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 4, 8, 7, generator=generator)


@pytest.mark.parametrize("name", TEMPLATES)
def test_it_computes_the_graph(name: str) -> None:
    template, weights, module = emitted(name)
    expected = evaluate(template.instantiate(SITE), {"x": image(), **weights})
    with torch.no_grad():
        torch.testing.assert_close(module(image()), expected)
        other = template.instantiate(SITE | {"N": 5})
        expected = evaluate(other, {"x": image(5), **weights})
        torch.testing.assert_close(module(image(5)), expected)


@pytest.mark.parametrize("name", TEMPLATES)
def test_its_code_is_plain_torch(name: str) -> None:
    _, _, module = emitted(name)
    assert "gos_fx" not in module.code and "evaluate" not in module.code
    assert module.code.startswith(("\n\n\ndef forward", "def forward"))
    kinds = {node.op for node in module.graph.nodes}
    assert kinds <= {
        "placeholder",
        "get_attr",
        "call_function",
        "call_method",
        "output",
    }
    assert not module.training


@pytest.mark.parametrize("name", TEMPLATES)
def test_gradients_reach_every_parameter(name: str) -> None:
    template, _, module = emitted(name)
    names = {v.name for v in template.weights if v.type.role == "weight"}
    assert {name for name, _ in module.named_parameters()} == names
    assert (name != "everything") or "m" in dict(module.named_buffers())
    before = {k: v.detach().clone() for k, v in module.named_parameters()}
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module(image()).square().sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
    optimizer.step()
    assert all(not torch.equal(before[k], p) for k, p in module.named_parameters())


def network(residual: nn.Module, images: Tensor) -> fx.GraphModule:
    """The residual network with every operator emitted."""
    traced = trace(residual, (images,))
    fold_batch_norm(traced)
    found = [op for op in find_operators(traced) if op.template is not None]
    pairs = []
    for op in found:
        assert op.template is not None
        pairs.append((op, emit_operator(op.template, op.bindings, op.weights)))
    return replace_operators(traced, pairs)


def texts(module: nn.Module) -> dict[str, str]:
    found = {}
    for name, part in module.named_modules():
        source = source_of(part)
        if source is not None:
            found[name] = source.concrete.text
    return found


def test_a_whole_network(residual: nn.Module, images: Tensor) -> None:
    traced = trace(residual, (images,))
    fold_batch_norm(traced)
    code = traced.code
    changed = network(residual, images)
    assert "self.bn1" not in changed.code and "self.relu_1" in changed.code
    x = torch.randn(7, *images.shape[1:])
    with torch.no_grad():
        torch.testing.assert_close(changed(x), residual(x), rtol=1e-4, atol=1e-5)
    assert traced.code == code  # the network it was made from is as it was
    # It can be found, and emitted, again.
    propagated = trace(changed, (images,))
    found = find_operators(propagated)
    assert {op.name for op in found} == set(texts(changed))
    assert all(op.template is not None for op in found)


def test_replacing_leaves_the_original_alone(
    residual: nn.Module, images: Tensor
) -> None:
    traced = trace(residual, (images,))
    fold_batch_norm(traced)
    operators = {op.name: op for op in find_operators(traced)}
    op = operators["shortcut.0"]
    assert op.template is not None
    module = emit_operator(op.template, op.bindings, op.weights)
    changed = replace_operators(traced, [(op, module)])
    assert changed.get_submodule("shortcut.0") is module
    assert isinstance(traced.get_submodule("shortcut.0"), nn.Conv2d)
    assert changed.get_submodule("conv1") is traced.get_submodule("conv1")
    assert [n.name for n in changed.graph.nodes] == [n.name for n in traced.graph.nodes]
    for new, old in zip(changed.graph.nodes, traced.graph.nodes, strict=True):
        if new.op != "output":
            assert new.meta["tensor_meta"].shape == old.meta["tensor_meta"].shape


def reload_pickled(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


@pytest.mark.parametrize("travel", [copy.deepcopy, reload_pickled])
def test_copies_keep_the_graphs(
    residual: nn.Module, images: Tensor, travel: Callable[[nn.Module], nn.Module]
) -> None:
    changed = network(residual, images)
    copied = travel(changed)
    assert len(texts(changed)) == 7 and texts(copied) == texts(changed)
    with torch.no_grad():
        assert torch.equal(copied(images), changed(images))
        for parameter in copied.parameters():
            parameter.zero_()
        assert float(changed(images).abs().sum()) > 0


def test_state_dict_round_trip(residual: nn.Module, images: Tensor) -> None:
    changed, other = network(residual, images), network(residual, images)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.1)
    state = {k: v.clone() for k, v in changed.state_dict().items()}
    assert other.load_state_dict(state).missing_keys == []
    with torch.no_grad():
        assert torch.equal(other(images), changed(images))
    assert texts(other) == texts(changed)


def test_export_keeps_the_graphs(residual: nn.Module, images: Tensor) -> None:
    changed = network(residual, images)
    program = torch.export.export(changed, (images,))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module()(images), changed(images))
    sources = {k: v for k, v in loaded.state_dict.items() if k.endswith(SOURCE)}
    assert len(sources) == 7
    for name, tensor in sources.items():
        assert torch.equal(tensor, changed.state_dict()[name])


def test_edited_code_is_refused() -> None:
    _, _, module = emitted("flat")
    assert source_of(module) is not None
    (sigmoid,) = [n for n in module.graph.nodes if "sigmoid" in str(n.target)]
    sigmoid.target = torch.tanh
    module.recompile()
    with pytest.raises(VerifyError, match="the code was edited") as caught:
        source_of(module)
    assert caught.value.where == "head" and SOURCE in caught.value.do
    delattr(module, SOURCE)
    assert source_of(module) is None


def test_trained_weights_are_not_an_edit() -> None:
    _, _, module = emitted("flat")
    with torch.no_grad():
        module.w.mul_(2)
    assert source_of(module) is not None
