"""Transformers of torch.nn as the layers that they are made of."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gos_fx
from gos_fx.passes.trace import UNTRACED, trace

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
WIDTH, HEADS, INNER, T, S = 12, 3, 20, 5, 4
MASK = torch.full((T, T), float("-inf")).triu(1)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def encoder_layer(heads: int = HEADS, **more: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, heads, INNER, **more)


def encoder(heads: int = HEADS, **more: Any) -> nn.Module:
    return nn.TransformerEncoder(encoder_layer(heads, **more), 2, nn.LayerNorm(WIDTH))


def decoder_layer(heads: int = HEADS, **more: Any) -> nn.Module:
    return nn.TransformerDecoderLayer(WIDTH, heads, INNER, **more)


def decoder(heads: int = HEADS, **more: Any) -> nn.Module:
    return nn.TransformerDecoder(decoder_layer(heads, **more), 2)


def whole(heads: int = HEADS, **more: Any) -> nn.Module:
    return nn.Transformer(WIDTH, heads, 2, 2, INNER, **more)


ONE, TWO = [encoder_layer, encoder], [decoder_layer, decoder, whole]


class Inside(nn.Module):
    """A layer with tensors of its own as arguments, between functions."""

    def __init__(self, layer: nn.Module, **more: Any) -> None:
        super().__init__()
        self.layer = layer
        self.names = [k for k, v in more.items() if isinstance(v, Tensor)]
        self.more = {k: v for k, v in more.items() if k not in self.names}
        for name in self.names:
            self.register_buffer(name, more[name])

    def forward(self, *inputs: Tensor) -> Tensor:
        masks = {name: getattr(self, name) for name in self.names}
        return self.layer(*inputs, **masks, **self.more) * 0.5  # type: ignore[no-any-return]


class Both(Inside):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, y)


class Alone(Inside):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class Padded(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        return self.layer(x, src_key_padding_mask=hidden)  # type: ignore[no-any-return]


def sequences(n: int, *lengths: int, first: bool = True) -> tuple[Tensor, ...]:
    sizes = [(n, t) if first else (t, n) for t in lengths]
    return tuple(torch.randn(*size, WIDTH) for size in sizes)


def close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def check(model: nn.Module, *batches: tuple[Tensor, ...]) -> gos_fx.LoweredModel:
    """All of it is lowered, and computes the same for each of these inputs."""
    lowered = gos_fx.lower(model.eval(), batches[0])
    assert not lowered.coverage.missing, lowered.coverage
    back = lowered.to_graph_module()
    for inputs in batches:
        close(back(*inputs), model(*inputs))
    return lowered


@pytest.mark.parametrize(
    ("first", "before"), [*itertools.product((True, False), repeat=2)]
)
@pytest.mark.parametrize("make", [*ONE, *TWO])
def test_settings(make: Any, first: bool, before: bool) -> None:
    """As the whole model and as a part, with torch's fast kernels and without."""
    lengths = (T,) if make in ONE else (S, T)
    x, y = (sequences(n, *lengths, first=first) for n in (2, 3))
    for heads in (2, 3):
        layer = make(heads, batch_first=first, norm_first=before)
        for norm in (m for m in layer.modules() if isinstance(m, nn.LayerNorm)):
            nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
        check(layer, x, y)
    check((Alone if make in ONE else Both)(layer), x, y)
    check(make(bias=False, batch_first=first), x)


@pytest.mark.parametrize(
    "activation", ["gelu", F.gelu, F.silu, torch.tanh, nn.GELU(), nn.ReLU(), nn.ELU()]
)
def test_activations(activation: Any) -> None:
    for make, lengths in ((encoder, (T,)), (decoder, (T, S))):
        check(make(2, activation=activation, batch_first=True), sequences(2, *lengths))


def test_activations_that_torch_confuses() -> None:
    """Its kernel computes every GELU exactly."""
    layer = encoder_layer(2, activation=nn.GELU("tanh"), batch_first=True)
    (x,) = sequences(2, T)
    model = Alone(layer).eval()
    traced = trace(model, (x,))
    assert "another activation" in traced.meta[UNTRACED]["layer"]
    close(traced(x), model(x))


class Halved(nn.TransformerEncoderLayer):
    """Inherits the forward, not all that it calls."""

    def _ff_block(self, x: Tensor) -> Tensor:
        return 0.5 * super()._ff_block(x)


def test_classes_that_inherit_the_forward() -> None:
    layer = Halved(WIDTH, HEADS, INNER, batch_first=True)
    check(nn.TransformerEncoder(layer, 2), sequences(2, T))


@pytest.mark.parametrize("kind", [torch.float32, torch.bool])
@pytest.mark.parametrize("is_causal", [None, True, False])
def test_masks(kind: torch.dtype, is_causal: bool | None) -> None:
    mask = MASK if kind == torch.float32 else MASK < 0
    x, y = sequences(2, T, T), sequences(3, T, T)
    for heads in (2, 3):
        model = Alone(encoder(heads, batch_first=True), mask=mask, is_causal=is_causal)
        check(model, x[:1], y[:1])
        given = {"tgt_mask": mask, "memory_mask": mask, "tgt_is_causal": is_causal}
        check(Both(decoder(heads, batch_first=True), **given), x, y)
        given = {"src_mask": mask.T if is_causal is None else mask, **given}
        check(Both(whole(heads, batch_first=True), **given), x, y)


class Causal(nn.Module):
    """A mask for the length that comes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = encoder(batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.layers(x, mask, is_causal=True)  # type: ignore[no-any-return]


def test_masks_for_a_length() -> None:
    check(Causal(), sequences(2, T), sequences(3, T))


def test_names_and_templates() -> None:
    """Those of torch's layers; both blocks have the same instructions."""
    model = whole(batch_first=True).eval()
    inputs = sequences(2, S, T)
    found = {op.name: op for op in check(model, inputs).operators}
    parts = ["self_attn", "dropout1", "norm1", "linear1", "linear2", "norm2"]
    for kind in ("encoder", "decoder"):
        more = ["multihead_attn", "norm3"] if kind == "decoder" else []
        for part in (*parts, *more):
            one, other = (found[f"{kind}.layers.{i}.{part}"] for i in (0, 1))
            assert one.template == other.template
    assert {"encoder.norm", "decoder.norm"} < set(found)
    traced = trace(model, inputs)
    assert set(traced.state_dict()) == set(model.state_dict())
    close(pickle.loads(pickle.dumps(traced))(*inputs), model(*inputs))
    close(copy.deepcopy(traced)(*inputs), model(*inputs))


def test_padded_keys() -> None:
    """Where torch skips them the encoder stays whole; elsewhere only attention does."""
    (x,) = sequences(2, T)
    hidden = torch.zeros(2, T, dtype=torch.bool)
    hidden[1, 3:] = True
    model = Padded(encoder(2, batch_first=True)).eval()
    lowered = gos_fx.lower(model, (x, hidden))
    assert "skip what is padded" in lowered.coverage.missing["layer"]
    assert type(lowered.network.get_submodule("layer")) is nn.TransformerEncoder
    close(lowered.to_graph_module()(x, hidden), model(x, hidden))
    for layer in (encoder(3, batch_first=True), encoder_layer(2, batch_first=True)):
        shifts = torch.where(hidden, float("-inf"), 0.0)
        lowered = gos_fx.lower(Padded(layer).eval(), (x, shifts))
        assert "padded keys" in "".join(lowered.coverage.missing.values())
        lowered = gos_fx.lower(Padded(layer).eval(), (x, hidden))
        missing = lowered.coverage.missing
        assert missing and all(name.endswith("self_attn") for name in missing)
        assert all("torch.bool" in reason for reason in missing.values())
        close(lowered.to_graph_module()(x, hidden), Padded(layer)(x, hidden))


def test_wrong_hints() -> None:
    """With these torch takes the mask or the hint, whichever its kernel knows."""
    mask = torch.zeros(T, T)
    model = Alone(encoder(batch_first=True), mask=mask, is_causal=True).eval()
    (x,) = sequences(2, T)
    traced = trace(model, (x,))
    assert set(traced.meta[UNTRACED]) == {"layer.layers.0", "layer.layers.1"}
    close(traced(x), model(x))


def test_hooks_are_kept() -> None:
    model = Alone(encoder(batch_first=True)).eval()
    model.layer.register_forward_hook(lambda module, given, result: result + 1)
    (x,) = sequences(2, T)
    close(trace(model, (x,))(x), model(x))


class Classifier(nn.Module):
    """Tokens, positions, an encoder, and the classes of the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, WIDTH)
        self.positions = nn.Parameter(torch.randn(1, T, WIDTH))
        layer = encoder_layer(2, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.encoder(self.words(tokens) + self.positions)
        return self.head(x[:, 0])  # type: ignore[no-any-return]


def test_classifier() -> None:
    """Through ONNX Runtime and compiled too."""
    model, tokens = Classifier(), torch.randint(0, 30, (2, T))
    more = torch.randint(0, 30, (3, T))
    lowered = check(model, (tokens,), (more,))
    written = lowered.to_onnx().SerializeToString()
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"tokens": more.numpy()})
    close(torch.from_numpy(found), model(more))
    compiled = gos_fx.compile(model, "host", example_inputs=(tokens,))
    close(compiled(tokens)[0], model(tokens))


def test_encoder_decoder() -> None:
    """Through ONNX Runtime and compiled too."""
    model = Both(whole(2, batch_first=True), tgt_mask=MASK, tgt_is_causal=True)
    inputs = sequences(2, S, T)
    lowered = check(model, inputs)
    written = lowered.to_onnx().SerializeToString()
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": inputs[0].numpy(), "y": inputs[1].numpy()})
    close(torch.from_numpy(found), model(*inputs))
    compiled = gos_fx.compile(model, "host", example_inputs=inputs)
    close(compiled(*inputs)[0], model(*inputs))


def test_gradients() -> None:
    model = whole(batch_first=True).eval()
    inputs = sequences(2, S, T)
    back = check(model, inputs).to_graph_module()
    found, wanted = [], []
    with torch.enable_grad():
        for network, into in ((back, found), (model, wanted)):
            given = [x.clone().requires_grad_() for x in inputs]
            (network(*given) ** 3).sum().backward()
            layer: Any = network.get_submodule("decoder.layers.0.linear1")
            weight = layer.w if network is back else layer.weight
            into += [x.grad for x in (*given, weight)]
    for a, b in zip(found, wanted, strict=True):
        close(a, b)
