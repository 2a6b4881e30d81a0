"""The whole pipeline on small networks: what optimize returns and guarantees."""

from __future__ import annotations

import copy
import io
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import gos_fx
from gos_fx.errors import InfeasibleConstraints
from gos_fx.passes.source import source_of


class Residual(nn.Module):
    """Four convolutions of one template, a shortcut, and a batch norm that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.pre = nn.BatchNorm2d(3)
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.b = nn.Conv2d(16, 16, 3, padding=1)
        self.c = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.d = nn.Conv2d(32, 32, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.a(self.pre(x))))
        x = x + self.b(x)
        return self.head(self.flat(self.pool(self.d(self.c(x)))))


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = Residual().eval()
    for norm in (model.pre, model.norm):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 2.0)
    return model


def batches(model: nn.Module, count: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Inputs with the model's own answers, so that it is right everywhere."""
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(32, 3, 12, 12, generator=generator) for _ in range(count)]
    with torch.no_grad():
        return [(x, model(x).argmax(1)) for x in made]


SMALL: dict[str, Any] = {
    "iterations": 2,
    "population": 4,
    "max_replacements": 4,
    "similar": 2,
    "epsilon": 0.8,
    "exclude": ["pre"],
    "latency_source": "analytical",
}


def optimized(model: nn.Module, **options: Any) -> fx.GraphModule:
    data = batches(model)
    settings = {"train_data": data[:2], "eval_data": data[2:], **SMALL, **options}
    return gos_fx.optimize(model, "arm_a53", **settings)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return network()


@pytest.fixture(scope="module")
def small(model: nn.Module) -> fx.GraphModule:
    return optimized(model)


def test_faster_within_epsilon(model: nn.Module, small: fx.GraphModule) -> None:
    result = small.gos
    assert result.speedup > 1
    assert result.optimized.metric > result.baseline.metric - 0.8
    assert any(not r.schedule_only for r in result.replacements)
    x, y = batches(model)[2]
    right = float((small(x).argmax(1) == y).float().mean())
    assert right == pytest.approx(result.optimized.metric, abs=1e-6)
    parameters = sum(p.numel() for p in small.parameters())
    assert parameters == result.optimized.parameters
    profiled = gos_fx.profile(small, "arm_a53", example_inputs=x[:1])
    assert profiled.latency.seconds == pytest.approx(
        result.optimized.latency.seconds, rel=1e-6
    )


def test_the_model_itself_is_untouched() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    optimized(model, iterations=1)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not model.training
    assert all(p.requires_grad for p in model.parameters())


def test_what_was_not_replaced_keeps_its_weights(
    model: nn.Module, small: fx.GraphModule
) -> None:
    replaced = {name for r in small.gos.replacements for name in r.operators}
    folded = {"a"}  # its batch norm is in it now
    state = model.state_dict()
    kept = [
        name
        for name in small.state_dict()
        if name.rpartition(".")[0] not in replaced | folded and name in state
    ]
    assert "pre.running_mean" in kept
    assert all(torch.equal(small.state_dict()[k], state[k]) for k in kept)


def test_same_seed_same_network(model: nn.Module, small: fx.GraphModule) -> None:
    random.seed(123)  # what the caller's generators hold does not matter
    torch.manual_seed(99)
    again = optimized(model)
    assert again.gos.to_json() == small.gos.to_json()
    for key, value in small.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def test_workers_do_not_change_the_result(
    model: nn.Module, small: fx.GraphModule
) -> None:
    with ThreadPoolExecutor(2) as executor:
        again = optimized(model, executor=executor)
    assert again.gos.to_json() == small.gos.to_json()


def test_it_is_an_ordinary_graph_module(small: fx.GraphModule) -> None:
    assert isinstance(small, fx.GraphModule)
    assert "gos_fx" not in small.code
    small = copy.deepcopy(small)
    small.train()
    small(torch.randn(4, 3, 12, 12)).square().sum().backward()
    for name, parameter in small.named_parameters():
        assert parameter.grad is not None and parameter.requires_grad, name
    optimizer = torch.optim.SGD(small.parameters(), 1e-3)
    optimizer.step()
    fresh = copy.deepcopy(small)
    fresh.load_state_dict(small.state_dict())


def operators(network: fx.GraphModule) -> list[str]:
    found = [source_of(m) for m in network.modules()]
    return [s.template.text for s in found if s is not None]


@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_keep_result_and_graphs(small: fx.GraphModule, copier: Any) -> None:
    copied = copier(small)
    x = torch.randn(2, 3, 12, 12)
    assert torch.equal(copied(x), small(x))
    assert copied.gos.to_json() == small.gos.to_json()
    assert operators(copied) == operators(small) != []


def test_export_keeps_the_graphs(small: fx.GraphModule) -> None:
    x = torch.randn(2, 3, 12, 12)
    program = torch.export.export(small, (x,))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file)
    assert torch.allclose(loaded.module()(x), small(x), atol=1e-6)
    kept = {k for k in loaded.state_dict if k.endswith("gos_source")}
    replaced = {name for r in small.gos.replacements for name in r.operators}
    assert kept == {f"{name}.gos_source" for name in replaced}


def test_every_point_of_the_front_can_be_taken(small: fx.GraphModule) -> None:
    front = small.gos.pareto_front
    assert front[small.gos.chosen].replacements == small.gos.replacements
    latencies = [p.measures.latency.seconds for p in front]
    assert latencies == sorted(latencies)
    for i, point in enumerate(front):
        taken = small.gos.select(i)
        assert taken.gos.chosen == i
        parameters = sum(p.numel() for p in taken.parameters())
        assert parameters == point.measures.parameters
        x = torch.randn(1, 3, 12, 12)
        profiled = gos_fx.profile(taken, "arm_a53", example_inputs=x)
        assert profiled.latency.seconds == pytest.approx(
            point.measures.latency.seconds, rel=1e-6
        )


def test_only_and_exclude(model: nn.Module) -> None:
    small = optimized(model, only=["b", "c", nn.Linear], exclude=["c"], iterations=1)
    touched = {name for r in small.gos.replacements for name in r.operators}
    tried = {name for h in small.gos.history for name in h["operators"]}
    assert touched <= {"b", "head"} and tried == {"b", "head"}


def test_at_most_max_replacements(model: nn.Module) -> None:
    small = optimized(model, max_replacements=1)
    assert sum(len(r.operators) for r in small.gos.replacements) <= 1


def test_constraints_end_the_search(model: nn.Module) -> None:
    small = optimized(model, constraints={"parameters": 10**9})
    assert small.gos.replacements == ()  # they held from the start
    with pytest.raises(InfeasibleConstraints, match=r"parameters <= 10.*best has"):
        optimized(model, constraints={"parameters": 10}, iterations=1)


def test_interrupt_keeps_what_was_found(model: nn.Module) -> None:
    def stop(entry: dict[str, Any]) -> None:
        if entry["round"] == 1:
            raise KeyboardInterrupt

    small = optimized(model, progress=stop)
    assert small.gos.facts["interrupted"]
    assert len(small.gos.history) == 1


def test_time_budget_of_nothing_gives_the_original(model: nn.Module) -> None:
    small = optimized(model, time_budget=0.0)
    assert small.gos.replacements == () and small.gos.speedup == 1.0


def test_without_data_fidelity_decides(model: nn.Module) -> None:
    small = gos_fx.optimize(
        model,
        "arm_a53",
        example_inputs=torch.zeros(1, 3, 12, 12),
        iterations=1,
        population=4,
        max_replacements=1,
        epsilon=0.2,
        latency_source="analytical",
    )
    assert not small.gos.facts["accuracy_measured"]
    assert small.gos.facts["metric"] == "fidelity"
    assert small.gos.baseline.metric == pytest.approx(1.0, abs=1e-6)


class TwoInTwoOut(nn.Module):
    """Two inputs by name, a tuple out, a layer called twice, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Conv2d(2, 8, 3, padding=1)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.tied = nn.Conv2d(8, 8, 3, padding=1)
        self.tied.weight = self.twice.weight

    def forward(self, image: Tensor, depth: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        y = self.left(image) + self.right(depth)
        z = self.tied(self.twice(self.twice(y)))
        return y.mean((2, 3)), {"map": z}


def test_several_inputs_and_outputs() -> None:
    model = TwoInTwoOut().eval()
    inputs = {"image": torch.randn(1, 3, 8, 8), "depth": torch.randn(1, 2, 8, 8)}
    small = gos_fx.optimize(
        model,
        "arm_a53",
        example_inputs=inputs,
        iterations=1,
        population=4,
        epsilon=0.5,
        latency_source="analytical",
    )
    first, second = small(**inputs)
    assert first.shape == (1, 8) and second["map"].shape == (1, 8, 8, 8)
    touched = {name for r in small.gos.replacements for name in r.operators}
    assert "twice" not in touched
