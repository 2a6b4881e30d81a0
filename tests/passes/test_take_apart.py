"""One node for each result of a layer with several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gos_fx.passes.nested import largest_difference
from gos_fx.passes.operators import find_operators
from gos_fx.passes.take_apart import take_apart
from gos_fx.passes.trace import trace

X = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))


class Holder(nn.Module):
    def __init__(self, read: Callable[[Any], Any], layer: nn.Module) -> None:
        super().__init__()
        self.read, self.layer = read, layer

    def forward(self, x: Tensor) -> Any:
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.read(self.layer(x, x, x, need_weights=False))
        return self.read(self.layer(x))


LSTM = nn.LSTM(4, 3, batch_first=True).eval()
GRU = nn.GRU(4, 3, batch_first=True).eval()
ATTENTION = nn.MultiheadAttention(4, 2, batch_first=True).eval()
READERS: dict[str, tuple[Callable[[Any], Any], nn.Module]] = {
    "all": (lambda y: y, LSTM),
    "one": (lambda y: y[0] * 2, LSTM),
    "one twice": (lambda y: y[0] + y[0], LSTM),
    "one from behind": (lambda y: y[-1][-1], LSTM),
    "some, the last first": (lambda y: (y[1][1], y[0]), LSTM),
    "states as a whole": (lambda y: {"states": y[1]}, LSTM),
    "of two": (lambda y: y, GRU),
    "one of which is none": (lambda y: y[0], ATTENTION),
    "both, one is none": (lambda y: y, ATTENTION),
}


@pytest.mark.parametrize("name", READERS)
def test_readers_read_parts(name: str) -> None:
    read, layer = READERS[name]
    model = Holder(read, layer).eval()
    traced = trace(model, (X,))
    (operator,) = find_operators(traced)
    assert operator.template is not None, operator.reason
    used = {node.name: len(node.users) for node in traced.graph.nodes}
    assert all(used[output] for output in operator.outputs)
    assert len(set(operator.outputs)) == len(operator.outputs)
    with torch.no_grad():
        assert largest_difference(traced(X), model(X)) == 0.0
    assert not take_apart(traced).modified  # a fixed point


def test_what_a_function_gives_is_taken_apart_on_demand() -> None:
    model = Holder(lambda y: torch.stack(y.chunk(2, 1)), nn.Linear(4, 4)).eval()
    traced = trace(model, (X[:, :4],))
    chunk = next(node for node in traced.graph.nodes if node.target == "chunk")
    assert [user.target for user in chunk.users] == [torch.stack]
    assert take_apart(traced, functions=True).modified
    assert len(chunk.users) == 2
    with torch.no_grad():
        assert torch.equal(traced(X[:, :4]), model(X[:, :4]))
