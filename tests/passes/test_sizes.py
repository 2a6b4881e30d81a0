"""Which sizes grow with the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gos_fx.passes.sizes import SIZES, note_sizes
from gos_fx.passes.trace import trace


class Sizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(2, 6))

    def forward(self, x: Tensor, y: Tensor) -> Any:
        flat = x.reshape(-1, 3)
        more = torch.cat([x, y])[:-1]
        shifted = x.view(x.size(0), 6) + self.position[:1]
        return flat, more, x.permute(1, 0), shifted, x.chunk(2, 1)


def test_lines_in_the_batch() -> None:
    x = torch.zeros(2, 6)
    traced = trace(Sizes().eval(), (x, x + 1))
    assert note_sizes(traced, (x, x)) == 2
    sizes = {node.name: node.meta[SIZES] for node in traced.graph.nodes}
    assert list(map(str, sizes["reshape"])) == ["2 * N", "3"]
    assert list(map(str, sizes["getitem"])) == ["2 * N - 1", "6"]
    assert list(map(str, sizes["permute"])) == ["6", "N"]
    assert sizes["position"] == (2, 6)  # of the network, not of the batch
    assert str(sizes["size"]) == "N"
    assert [[str(d) for d in part] for part in sizes["chunk"]] == [["N", "3"]] * 2


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(2, 3, 2)


def test_a_network_that_fixes_its_batch_has_no_symbol() -> None:
    x = torch.zeros(2, 6)
    traced = trace(Fixed().eval(), (x,))
    note_sizes(traced, (x,))
    sizes = [node.meta[SIZES] for node in traced.graph.nodes]
    assert sizes[:2] == [(2, 6), (2, 3, 2)]


@pytest.mark.parametrize("batch", [1, 3])
def test_the_batch_of_the_example_does_not_matter(batch: int) -> None:
    x = torch.zeros(batch, 6)
    traced = trace(nn.Sequential(nn.Linear(6, 4), nn.ReLU()).eval(), (x,))
    note_sizes(traced, (x,))
    shapes = [
        node.meta[SIZES] for node in traced.graph.nodes if node.op == "call_module"
    ]
    assert [list(map(str, shape)) for shape in shapes] == [["N", "4"]] * 2
