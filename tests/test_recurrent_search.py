"""A recurrent layer from end to end: searched, saved, loaded, compiled."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gos_fx


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.layer = nn.LSTM(16, 16, batch_first=True)
        self.head = nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.layer(self.embedding(x))[0][:, -1])
        return y


def agreement(found: Tensor, wanted: Tensor) -> float:
    return float((found.argmax(-1) == wanted).float().mean())


def test_from_search_to_code(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Classifier().eval(), torch.randint(0, 50, (4, 5))
    data = [(x, model(x).argmax(-1))]
    network = gos_fx.optimize(
        model,
        "arm_a53",
        example_inputs=(x,),
        train_data=data,
        eval_data=data,
        loss=F.cross_entropy,
        metric=agreement,
        epsilon=1.0,  # any cell will do
        only="layer",
        iterations=2,
        population=4,
        latency_source="analytical",
        seed=1,
    )
    (replacement,) = network.gos.replacements
    assert "scan(" in replacement.after.text and not replacement.schedule_only
    with torch.no_grad():
        expected = network(x)
        network.gos.save(tmp_path)
        assert torch.equal(gos_fx.load(tmp_path)(x), expected)
        compiled = gos_fx.compile(network, "host", example_inputs=(x,))
        assert torch.allclose(compiled(x)[0], expected, rtol=0, atol=1e-5)
