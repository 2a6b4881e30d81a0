"""Local fit and fine-tuning: they learn, and touch nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gos_fx.evolve.task import Task
from gos_fx.evolve.training import FineTuning, LocalFit, fine_tune, fit_locally

SETTINGS = FineTuning(epochs=2, batch=16)


def recorded(model: nn.Module) -> tuple[list[bool], list[object]]:
    """The training flags of all modules, noted at each of their calls."""
    flags: list[bool] = []
    handles = [
        module.register_forward_pre_hook(lambda m, _: flags.append(m.training))
        for module in model.modules()
    ]
    return flags, list(handles)


def tune(net: nn.Module, task: Task, settings: FineTuning = SETTINGS, seed: int = 0):
    """A copy of the net with its second convolution tuned."""
    import copy

    model = copy.deepcopy(net).requires_grad_(False)
    adapted = model.conv2.requires_grad_(True)
    with torch.no_grad():
        adapted.weight.mul_(0.5)
    assert task.train is not None
    data = [((x,), y) for x, y in task.train]
    flags, _ = recorded(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    done = fine_tune(model, [adapted], data, F.cross_entropy, settings, seed)
    return model, before, flags, done


def test_only_the_adapted_module_changes(net: nn.Module, task: Task) -> None:
    model, before, flags, done = tune(net, task)
    assert done
    after = model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"conv2.weight", "conv2.bias"}
    assert "bn.running_mean" in before and "bn.num_batches_tracked" in before
    # In eval mode at every call of every module, with no gradient anywhere else.
    assert flags and not any(flags)
    others = [p for n, p in model.named_parameters() if not n.startswith("conv2")]
    assert all(p.grad is None for p in others)


def test_it_lowers_the_loss(net: nn.Module, task: Task) -> None:
    model, before, _, _ = tune(net, task, FineTuning(epochs=6, batch=16, rate=0.05))
    assert task.train is not None

    def loss() -> float:
        with torch.no_grad():
            return sum(float(F.cross_entropy(model(x), y)) for x, y in task.train)

    tuned = loss()
    model.load_state_dict(before)
    assert tuned < 0.95 * loss()


def test_the_seed_decides(net: nn.Module, task: Task) -> None:
    one, again, other = (
        tune(net, task, seed=seed)[0].conv2.weight for seed in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_the_global_generators_are_left_alone(net: nn.Module, task: Task) -> None:
    before = torch.random.get_rng_state()
    tune(net, task)
    fit_locally(nn.Linear(3, 2), torch.ones(8, 3), torch.randn(8, 2), LocalFit(), 0)
    torch.random.set_rng_state(before)
    state = torch.random.get_rng_state()
    tune(net, task)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_divergence_is_reported(net: nn.Module, task: Task) -> None:
    *_, done = tune(net, task, FineTuning(epochs=3, batch=16, rate=1e30))
    assert not done


def test_nothing_to_train(net: nn.Module) -> None:
    assert fine_tune(net, [nn.ReLU()], [], F.cross_entropy, SETTINGS, 0)


def test_inputs_of_any_nesting() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, a: Tensor, b: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"y": self.layer(a) + b["bias"]}

    torch.manual_seed(0)
    model = Two()
    data = [
        ((torch.randn(5, 3), {"bias": torch.ones(5, 1)}), {"y": torch.zeros(5, 1)})
        for _ in range(3)
    ]

    def loss(out: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
        assert out["y"].shape == target["y"].shape
        return F.mse_loss(out["y"], target["y"])

    before = loss(model(*data[0][0]), data[0][1]).item()
    settings = FineTuning(epochs=10, batch=4, rate=0.05)
    assert fine_tune(model, [model], data, loss, settings, 0)
    assert loss(model(*data[0][0]), data[0][1]).item() < before


def test_local_fit_recovers_a_linear_operator() -> None:
    torch.manual_seed(1)
    original, module = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    x = torch.randn(64, 3, 8, 8)
    with torch.no_grad():
        y = original(x)
    settings = LocalFit(steps=200, rate=0.03, batch=32)
    untouched = fit_locally(module, x, y, LocalFit(steps=0), 0)
    error = fit_locally(module, x, y, settings, 0)
    assert untouched > 0.5 and error < 1e-4
    torch.testing.assert_close(module.weight, original.weight, rtol=0, atol=0.02)


def test_local_error_is_relative_to_the_variance() -> None:
    y = torch.randn(200, 4) * 7 + 3
    mean = nn.Linear(2, 4)
    with torch.no_grad():
        mean.weight.zero_()
        mean.bias.copy_(y.mean(0))
    error = fit_locally(mean, torch.randn(200, 2), y, LocalFit(steps=0), 0)
    assert error == pytest.approx(1.0, abs=0.05)


def test_local_fit_of_what_is_not_finite() -> None:
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.fill_(float("inf"))
    x = torch.randn(8, 2)
    assert fit_locally(module, x, x, LocalFit(), 0) == float("inf")
