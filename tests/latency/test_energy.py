"""Energy: the formula by hand, and where its constants are not known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gos_fx.errors import BadOption
from gos_fx.latency.energy import RELATIVE_ERROR, EnergyModel, Work
from gos_fx.latency.model import Estimate
from gos_fx.passes.operators import find_operators
from gos_fx.pipeline import prepare
from gos_fx.targets import get
from gos_fx.targets.target import Energy

CONSTANTS = Energy(static_w=2.0, flop_j=1e-9, dram_byte_j=1e-6, source="this test")
TARGET = replace(get("arm_a53"), energy=CONSTANTS)


class Net(nn.Module):
    """1x1 convolution of 8 to 16 channels, and a sum that is no operator."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + y.flatten(1).view(y.shape)


def work_of(size: int) -> Work:
    network = prepare(Net().eval(), (torch.zeros(1, 8, size, size),))
    return EnergyModel(TARGET).network(network, find_operators(network))


def test_joules_by_hand() -> None:
    model = EnergyModel(TARGET)
    latency = Estimate(0.25, 0.01, "host", "arm_a53")
    found = model.joules(Work(3e8, 5e5), latency)
    assert found.joules == pytest.approx(2.0 * 0.25 + 0.3 + 0.5)
    assert found.error == pytest.approx(RELATIVE_ERROR * found.joules)
    assert (found.source, found.target) == ("modelled", "arm_a53")
    assert "(modelled, arm_a53)" in str(found)


def test_work_that_fits_the_cache() -> None:
    """Multiply-adds count twice, the addition once for each number; of the bytes only
    the weights come from memory."""
    numbers = 4 * 4
    assert work_of(4) == Work(2 * 8 * 16 * numbers + 16 * numbers, 4 * 8 * 16)


def test_maps_beyond_the_cache_come_from_memory() -> None:
    size = 128
    x, y = (4 * channels * size * size for channels in (8, 16))
    assert y > TARGET.machine.cache_bytes()
    weights = 4 * 8 * 16
    assert work_of(size).dram_bytes == weights + (x + y) + 3 * y


@pytest.mark.parametrize(
    "name",
    ["arm_a53", "raspberry_pi_3b_plus", "snapdragon_845", "snapdragon_845_little"],
)
def test_constants_of_the_boards(name: str) -> None:
    """All cores at their peak and memory at its rate take what such chips take."""
    target = get(name)
    constants = target.energy
    assert constants is not None and constants.source
    machine = target.machine
    power = constants.static_w + constants.flop_j * machine.peak_flops
    power += constants.dram_byte_j * machine.dram_bytes_per_s_all
    assert 1.0 < power < 10.0


def test_nothing_is_known_of_the_host() -> None:
    with pytest.raises(BadOption, match="energy that host takes"):
        EnergyModel(get("host"))
