"""Bad input of the public function: its class, the culprit, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gos_fx
from gos_fx import errors


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flatten(self.pool(self.relu(self.conv(x)))))


class Untraceable(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if y.sum() > 0:  # decides by values
            y = -y
        return self.head(self.flatten(self.pool(y)))


X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
DATA = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])) for _ in range(2)]


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def refused(error: type[errors.GosError], model: Any, **options: Any) -> str:
    """The message of a call of optimize that must be refused at once."""
    settings: dict[str, Any] = {
        "example_inputs": X,
        "iterations": 1,
        "population": 4,
        "latency_source": "analytical",
    }
    settings |= options
    target = settings.pop("target", "arm_a53")
    with pytest.raises(errors.GosError) as caught:
        gos_fx.optimize(model, target, **settings)
    assert type(caught.value) is error, repr(caught.value)
    assert caught.value.what and caught.value.where, "it names what is wrong and where"
    assert caught.value.do, "it says what to do"
    return str(caught.value)


def test_unknown_target(net: nn.Module) -> None:
    message = refused(errors.UnknownTarget, net, target="arm_a35")
    assert "arm_a35" in message and "'arm_a53'" in message
    message = refused(errors.UnknownTarget, net, target="toaster")
    assert all(name in message for name in ("arm_a53", "snapdragon_845", "host"))


def test_untraceable_model() -> None:
    message = refused(errors.UntraceableModel, Untraceable().eval())
    assert "Untraceable.forward" in message and "test_bad_input.py:" in message
    assert "conv, head can be optimized" in message


def test_missing_example_inputs(net: nn.Module) -> None:
    message = refused(errors.MissingExampleInputs, net, example_inputs=None)
    assert "example_inputs=torch.zeros" in message


@pytest.mark.parametrize(
    ("inputs", "culprit"),
    [
        (torch.randn(1, 5, 8, 8), "(1, 5, 8, 8)"),
        (torch.randn(8, 8), "(8, 8)"),
        ((X, X), "(1, 3, 8, 8), (1, 3, 8, 8)"),
        ("a picture", "no tensor"),
        ({"image": X}, "forward has no parameter image"),
        ({}, "forward needs x"),
    ],
)
def test_wrong_example_inputs(net: nn.Module, inputs: Any, culprit: str) -> None:
    message = refused(errors.BadExampleInputs, net, example_inputs=inputs)
    assert culprit in message


def test_training_mode(net: nn.Module) -> None:
    message = refused(errors.TrainingModeError, net.train())
    assert "Net is in training mode" in message and "model.eval()" in message
    net.eval()
    net.relu.train()
    message = refused(errors.TrainingModeError, net)
    assert "ReLU is in training mode (relu)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(net: nn.Module, value: float) -> None:
    with torch.no_grad():
        net.head.weight[1, 2] = value
    message = refused(errors.NonFiniteWeights, net)
    assert "1 of 8 values" in message and "head.weight" in message


def test_buffers_that_are_not_finite() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    model[1].running_var[0] = float("inf")
    assert "1.running_var" in refused(errors.NonFiniteWeights, model)


class Masked(nn.Module):
    """Adds a buffer, where minus infinity means what is not seen."""

    def __init__(self, hidden: float) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("mask", torch.full((3, 3), hidden).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.layer(x) + self.mask, -1)


def test_masks_in_buffers() -> None:
    model, x = Masked(float("-inf")).eval(), torch.randn(3, 3)
    assert torch.equal(gos_fx.lower(model, x).network(x), model(x))
    assert "mask" in refused(errors.NonFiniteWeights, Masked(float("nan")).eval())


def test_what_is_no_model() -> None:
    message = refused(errors.BadOption, {"weight": X})
    assert "dict is not an nn.Module" in message


@pytest.mark.parametrize("where", ["train_data", "eval_data"])
def test_empty_loader(net: nn.Module, where: str) -> None:
    message = refused(errors.EmptyLoader, net, **{where: []})
    assert f"{where} gives no batch" in message


@pytest.mark.parametrize("where", ["train_data", "eval_data"])
def test_one_shot_loader(net: nn.Module, where: str) -> None:
    def generator() -> Iterator[Any]:
        yield from DATA

    for data in (generator(), iter(DATA), zip([X], [torch.tensor([0])], strict=True)):
        message = refused(errors.OneShotLoader, net, **{where: data})
        assert where in message and "DataLoader" in message


def test_data_loaders_and_lists_are_taken(net: nn.Module) -> None:
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(DATA[0][0], DATA[0][1]), batch_size=2
    )
    small = gos_fx.optimize(
        net,
        "arm_a53",
        eval_data=loader,
        train_data=DATA,
        iterations=0,
        population=4,
        latency_source="analytical",
    )
    assert small.gos.facts["batch"] == 1  # one sample of the loader


@pytest.mark.parametrize(
    ("metric", "culprit"),
    [
        (lambda outputs, targets: float("nan"), "nan"),
        (lambda outputs, targets: float("-inf"), "-inf"),
        (lambda outputs, targets: "very good", "'very good'"),
        (lambda outputs, targets: None, "None"),
        (lambda outputs, targets: outputs, "(4, 2)"),
        (lambda outputs, targets: outputs.flatten(), "(8,)"),
    ],
)
def test_metric_that_returns_nonsense(
    net: nn.Module, metric: Callable[..., Any], culprit: str
) -> None:
    message = refused(errors.BadMetric, net, eval_data=DATA, metric=metric)
    assert culprit in message and "(metric)" in message


def test_unwritable_run_directory(net: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    for path in (file, file / "below"):
        message = refused(errors.UnwritableRunDirectory, net, run_dir=path)
        assert str(path) in message and "run_dir" in message
    assert file.read_text() == "in the way"


@pytest.mark.parametrize("epsilon", [-0.01, float("nan"), float("inf"), "small", None])
def test_epsilon(net: nn.Module, epsilon: Any) -> None:
    message = refused(errors.BadOption, net, epsilon=epsilon)
    assert f"epsilon={epsilon}" in message or f"epsilon={epsilon!r}" in message


def test_constraints(net: nn.Module) -> None:
    message = refused(errors.BadOption, net, constraints={"latencies": 0.1})
    assert "no constraint 'latencies'" in message and "latency, parameters" in message


def test_constraints_that_nothing_meets(net: nn.Module) -> None:
    constraints = {"latency": 1e-12, "memory": 1e9}
    message = refused(
        errors.InfeasibleConstraints, net, constraints=constraints, iterations=0
    )
    assert "latency <= 1e-12" in message and "memory" not in message
    assert "parameters" in message  # of the best found


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"population": 6}, "population=6"),
        ({"population": 0}, "population=0"),
        ({"iterations": -1}, "iterations=-1"),
        ({"metric_mode": "best"}, "metric_mode='best'"),
        ({"latency_source": "crystal ball"}, "'crystal ball'"),
        ({"latency_source": "host", "target": "arm_a53"}, "not this machine"),
        ({"objectives": ("latency", "energy")}, "lack one of"),
        ({"objectives": "latency"}, "lack one of"),
        ({"objectives": ("latency", "parameters", "beauty")}, "'beauty'"),
        (
            {"objectives": ("latency", "parameters", "energy"), "target": "host"},
            "energy that host takes",
        ),
        ({"constraints": {"energy": 1.0}, "target": "host"}, "energy that host takes"),
    ],
)
def test_other_options(net: nn.Module, options: dict[str, Any], culprit: str) -> None:
    assert culprit in refused(errors.BadOption, net, **options)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"resume": True}, "resuming"),
    ],
)
def test_what_is_not_built_yet(
    net: nn.Module, options: dict[str, Any], culprit: str
) -> None:
    assert culprit in refused(errors.NotBuiltYet, net, **options)


def test_the_other_functions_refuse_too(net: nn.Module) -> None:
    for function in (gos_fx.profile, gos_fx.compile):
        with pytest.raises(errors.UnknownTarget):
            function(net, "toaster", example_inputs=X)
        with pytest.raises(errors.TrainingModeError):
            function(Net(), "arm_a53", example_inputs=X)
        with pytest.raises(errors.MissingExampleInputs):
            function(net, "arm_a53")
        with pytest.raises(errors.BadExampleInputs):
            function(net, "arm_a53", example_inputs=torch.randn(1, 5, 8, 8))
        with pytest.raises(errors.UntraceableModel):
            function(Untraceable().eval(), "arm_a53", example_inputs=X)


@pytest.mark.parametrize("only", ["conv", nn.Conv2d, ["con*"], [nn.Conv2d]])
def test_one_name_or_type_need_not_be_a_list(net: nn.Module, only: Any) -> None:
    """A string is a name here, not a list of letters."""
    options: dict[str, Any] = {
        "example_inputs": X,
        "iterations": 0,
        "population": 4,
        "latency_source": "analytical",
    }
    tried = gos_fx.optimize(net, "arm_a53", only=only, **options)
    assert [entry["operators"] for entry in tried.gos.history] == [["conv"]]
    tried = gos_fx.optimize(net, "arm_a53", exclude=only, **options)
    assert ["conv"] not in [entry["operators"] for entry in tried.gos.history]


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"max_replacements": -1}, "max_replacements"),
        ({"similar": 0}, "similar"),
        ({"time_budget": -1.0}, "time_budget"),
        ({"threads": 0}, "threads"),
        ({"constraints": {"latency": "fast"}}, "latency"),
        ({"constraints": {"latency": float("nan")}}, "latency"),
        ({"only": ["typo"]}, "typo"),
        ({"eval_data": 5}, "eval_data"),
        ({"eval_data": [1, 2]}, "eval_data"),
    ],
)
def test_options_without_sense(options: dict[str, object], culprit: str) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval()
    with pytest.raises(errors.BadOption, match=culprit):
        gos_fx.optimize(
            model, "arm_a53", example_inputs=torch.zeros(1, 3, 8, 8), **options
        )


class Tokens(torch.nn.Module):
    """Operators that a search cannot take: of indices, of several maps, of none."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rest = torch.nn.Embedding(9, 4), torch.nn.Dropout()
        self.cell, self.head = torch.nn.GRU(4, 4), torch.nn.Bilinear(4, 4, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        steps, last = self.cell(self.rest(self.words(tokens)))
        return self.head(steps[-1:], last)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("words", r"it takes map\[N, T, int64\]"),
        ("rest", "it computes nothing"),
        ("cell", "it gives 2 feature maps"),
        ("head", "Bilinear has no lowering"),
    ],
)
def test_an_operator_that_cannot_be_replaced(name: str, reason: str) -> None:
    with pytest.raises(errors.BadOption, match=f"{name} cannot be replaced: {reason}"):
        gos_fx.optimize(
            Tokens().eval(),
            "arm_a53",
            example_inputs=torch.zeros(2, 3, dtype=torch.int64),
            only=name,
            latency_source="analytical",
        )


def test_batches_that_the_model_does_not_take() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval()
    data = [(torch.zeros(2, 5, 8, 8), torch.zeros(2))]
    with pytest.raises(errors.BadExampleInputs, match="5"):
        gos_fx.optimize(
            model, "arm_a53", example_inputs=torch.zeros(1, 3, 8, 8), eval_data=data
        )


def test_a_metric_that_fails() -> None:
    def half(outputs: object, targets: object) -> float:
        return 1 / 0

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval()
    data = [(torch.zeros(2, 3, 8, 8), torch.zeros(2))]
    with pytest.raises(errors.BadMetric, match="ZeroDivisionError"):
        gos_fx.optimize(model, "arm_a53", eval_data=data, metric=half)
