"""Exported programs as one network: every rule, and what no rule knows."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gos_fx.instructions
import gos_fx.ir.opaque  # noqa: F401  (registers the custom operator)
from gos_fx.kernels.build import BuildResult, build
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.targets.target import get

Function = Callable[..., Any]
GENERATOR = torch.Generator().manual_seed(0)


def weight(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR) * 0.3


W, B = weight(12, 8, 3, 3), weight(12)
KERNEL, WIDE = weight(6, 10), weight(2, 5, 10)
GAIN, SHIFT = weight(10), weight(10)
MEAN, VARIANCE = weight(8), weight(8).abs() + 0.5
IMAGE, ROWS, TOKENS = (2, 8, 9, 7), (3, 10), (2, 5, 10)


def attention(x: Tensor, causal: bool, mask: Tensor | None = None) -> Tensor:
    q, k, v = (x * s for s in (1.0, 0.5, 2.0))
    heads = [t.view(2, 5, 2, 5).transpose(1, 2) for t in (q, k, v)]
    return F.scaled_dot_product_attention(*heads, attn_mask=mask, is_causal=causal)


def squeeze_excite(x: Tensor) -> Tensor:
    scale = F.hardsigmoid(F.conv2d(x.mean((2, 3), keepdim=True), W[:8, :, :1, :1]))
    return F.hardswish(x) * scale


# Every rule, with the shapes of its inputs.
RULES: dict[str, tuple[Function, tuple[tuple[int, ...], ...]]] = {
    "sums": (lambda x, y: (x + y, x - y, x + 2, 3 - x, 1 + x), (ROWS, ROWS)),
    "scaled": (lambda x, y: torch.add(x, y, alpha=0.5) / 3, (ROWS, ROWS)),
    "products": (lambda x, y: (x * y, -x / (y * y + 1), 2 * x), (ROWS, ROWS)),
    "powers": (lambda x: (x**2, (x**2 + 1) ** 0.5, 1 / (x.abs() + 1)), (ROWS,)),
    "roots": (lambda x: torch.rsqrt(x.abs() + 1) + torch.sqrt(x.abs()), (ROWS,)),
    "bounds": (lambda x: x.clamp(-1, 0.7) + x.clamp(min=0) * x.clamp(max=1), (ROWS,)),
    "pairs": (lambda x, y: torch.maximum(x, y) - torch.minimum(x, 2 * y), (ROWS, ROWS)),
    "relus": (lambda x: F.relu6(4 * x) + F.leaky_relu(x, 0.1) + F.relu(x), (IMAGE,)),
    "hard": (lambda x: F.hardswish(2 * x) - F.hardsigmoid(x) + F.hardtanh(x), (IMAGE,)),
    "soft": (lambda x: x.exp() + x.sigmoid() + x.tanh() + F.silu(x), (TOKENS,)),
    "gelu": (lambda x: F.gelu(3 * x) + F.gelu(x, approximate="tanh"), (TOKENS,)),
    "erf": (lambda x: torch.erf(2 * x), (TOKENS,)),
    "channels": (lambda x: x * MEAN[:, None, None] + MEAN.view(1, 8, 1, 1), (IMAGE,)),
    "columns": (lambda x: x + weight_of(7) * weight_of(9, 1), (IMAGE,)),
    "outer": (lambda x, y: x * y, ((3, 1, 5), (4, 1))),
    "convolution": (lambda x: F.conv2d(x, W, B, stride=2, padding=(1, 2)), (IMAGE,)),
    "no bias": (lambda x: F.relu(F.conv2d(x, W, padding=1, dilation=2)), (IMAGE,)),
    "residual": (lambda x: F.relu(F.conv2d(x, W[:8], padding=1) + x), (IMAGE,)),
    "max pool": (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), (IMAGE,)),
    "avg pool": (lambda x: F.avg_pool2d(x, 3, 2, 1), (IMAGE,)),
    "inside": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (IMAGE,)),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, (3, 1)), (IMAGE,)),
    "spread": (lambda x: F.adaptive_avg_pool2d(x.mean((2, 3), True), 3) + 1, (IMAGE,)),
    "resize": (lambda x: F.interpolate(x, scale_factor=2.0), (IMAGE,)),
    "means": (lambda x: (x.mean((2, 3)), x.mean(1), x.mean((1, 2), True)), (IMAGE,)),
    "totals": (lambda x: (x.sum(-1), x.sum(0), x.amax((1, 2)), x.amin(-1)), (TOKENS,)),
    "batch norm": (lambda x: F.batch_norm(x, MEAN, VARIANCE, MEAN, MEAN), (IMAGE,)),
    "bare norm": (lambda x: F.batch_norm(x, MEAN, VARIANCE), (IMAGE,)),
    "squeeze": (squeeze_excite, (IMAGE,)),
    "linear": (lambda x: F.linear(x, KERNEL, weight_of(6)), (TOKENS,)),
    "rank 4": (lambda x: F.linear(x, weight_of(4, 7)), (IMAGE,)),
    "products of maps": (lambda x, y: x @ y.mT, (TOKENS, TOKENS)),
    "broadcast product": (lambda x, y: x @ y, (TOKENS, (10, 4))),
    "addmm": (lambda x: torch.addmm(weight_of(6), x, KERNEL.T), (ROWS,)),
    "baddbmm": (lambda x, y: torch.baddbmm(x @ y, x, y), (TOKENS, (2, 10, 10))),
    "softmax": (lambda x: (x.softmax(-1), x.softmax(1)), (TOKENS,)),
    "softmax of images": (lambda x: (x.softmax(1), x.softmax(3)), (IMAGE,)),
    "layer norm": (lambda x: F.layer_norm(x, (10,), GAIN, SHIFT, 1e-3), (TOKENS,)),
    "layer norms": (lambda x: F.layer_norm(x, (5, 10)) + F.layer_norm(x, (10,), GAIN),
                    (TOKENS,)),
    "attention": (lambda x: attention(x, False), (TOKENS,)),
    "causal": (lambda x: attention(x, True), (TOKENS,)),
    "masked": (lambda x: attention(x, False, weight_of(5, 5)), (TOKENS,)),
    "reshapes": (lambda x: x.flatten(1).view(2, 14, 36).unsqueeze(1)[:, 0], (IMAGE,)),
    "transposes": (lambda x: (x.permute(0, 2, 3, 1), x.mT + 1), (IMAGE,)),
    "shuffle": (lambda x: F.relu(x.view(2, 2, 4, 9, 7).transpose(1, 2).flatten(1, 2)),
                (IMAGE,)),
    "slices": (lambda x: (x[:, 1:7:2], x[..., -3:] * 2, x[:, 3], x[1] + 1), (IMAGE,)),
    "split": (lambda x: [2 * t for t in (*x.chunk(3, 1), *x.split(5, 1))], (IMAGE,)),
    "unbind": (lambda x: sum(x.unbind(1)), (TOKENS,)),
    "expand": (lambda x: x.unsqueeze(1).expand(-1, 4, -1) + 1, (ROWS,)),
    "concat": (lambda x, y: torch.cat([x, y, x[:, :3]], 1), (IMAGE, (2, 4, 9, 7))),
    "class token": (lambda x: torch.cat([GAIN.expand(2, 1, -1), x], 1) + 1, (TOKENS,)),
    "stack": (lambda x: torch.stack([x, 2 * x], 1), (ROWS,)),
    "pad": (lambda x: (F.pad(x, (1, 2, 0, 3), value=2), F.pad(x, (-1, 1))), (IMAGE,)),
    "dropout": (lambda x: F.dropout(x, training=False).clone() * 2, (ROWS,)),
    "patches": (lambda x: F.conv2d(x, W, stride=3).flatten(2).mT, (IMAGE,)),
    "pooled": (lambda x: F.linear(x.mean((2, 3), True).flatten(1), W[:, :, 0, 0]),
               (IMAGE,)),
}  # fmt: skip


def weight_of(*shape: int) -> Tensor:
    """A constant of the function that calls it."""
    return torch.linspace(-1, 1, prod(shape)).reshape(shape)


class Functions(nn.Module):
    """Each function on inputs of its own."""

    def __init__(self, cases: dict[str, Any]) -> None:
        super().__init__()
        self.cases = cases
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        left, results = list(inputs), []
        for function, shapes in self.cases.values():
            given = [left.pop(0) for _ in shapes]
            result = function(*given)
            results += [result] if isinstance(result, Tensor) else list(result)
        return tuple(results)

    def inputs(self) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        return tuple(
            torch.randn(shape, generator=generator)
            for _, shapes in self.cases.values()
            for shape in shapes
        )


def compiled(module: nn.Module, inputs: Any, folder: Path) -> BuildResult:
    """Built for this machine, its results compared with PyTorch's."""
    result = build(module, inputs, get("host"), folder)
    with torch.no_grad():
        expected = module(*inputs)
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    for threads in (1, 2):
        found = HostModule(result.library, threads)(*inputs)
        for i, (a, b) in enumerate(zip(expected, found, strict=True)):
            torch.testing.assert_close(
                b, a, rtol=1e-5, atol=1e-5, msg=lambda m, i=i: f"output {i}: {m}"
            )
    return result


def functions(result: BuildResult) -> list[str]:
    """What an inference calls, without numbers that tell equal names apart."""
    return [call["function"].rstrip("0123456789") for call in result.kernels]


def test_every_rule(tmp_path: Path) -> None:
    module = Functions(RULES)
    result = compiled(module, module.inputs(), tmp_path)
    assert result.others == () and result.unscheduled == ()


@pytest.mark.qemu
@pytest.mark.parametrize("part", range(3))  # the driver takes so many tensors
def test_every_rule_as_arm_code(
    qemu: str, make_package: Any, tmp_path: Path, part: int
) -> None:
    module = Functions(dict(list(RULES.items())[part::3]))
    inputs = module.inputs()
    package = make_package(module, inputs, "arm_a53", tmp_path)
    found = emulate(package, [x.numpy() for x in inputs], threads=2)
    for i, (a, b) in enumerate(zip(module(*inputs), found, strict=True)):
        torch.testing.assert_close(
            torch.as_tensor(b), a, rtol=1e-5, atol=1e-5, msg=f"output {i}"
        )


def test_functions_over_the_whole_range(tmp_path: Path) -> None:
    """Those written as arithmetic, also where they are flat or run away."""
    ways = {
        "erf": (torch.erf, ((4001,),)),
        "gelu": (F.gelu, ((4001,),)),
        "near": (lambda x: F.gelu(x, approximate="tanh"), ((4001,),)),
        "silu": (F.silu, ((4001,),)),
        "nested": (lambda x: F.silu(F.silu(F.silu(F.gelu(x)))), ((4001,),)),
        "gates": (lambda x: F.hardswish(x) * F.hardsigmoid(x), ((4001,),)),
    }
    module = Functions(ways)
    x = torch.linspace(-100, 100, 4001)
    result = build(module, (x,) * 6, get("host"), tmp_path)
    found = HostModule(result.library, 1)(*(x,) * 6)
    for name, a, b in zip(ways, module(*(x,) * 6), found, strict=True):
        torch.testing.assert_close(
            b, a, rtol=2e-6, atol=1e-6, msg=lambda m, n=name: n + m
        )
    assert len(result.kernels) == 6


class Between(nn.Module):
    """What no rule knows stands in the middle; values cross there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = torch.relu(self.first(x))
        y = x.cumsum(2)
        z = torch.relu(self.second(x + y))
        return z, z.mean((2, 3)), x


def test_an_unknown_operator_in_the_middle(tmp_path: Path) -> None:
    result = compiled(Between().eval(), (torch.randn(1, 3, 9, 11),), tmp_path)
    assert len(result.others) == 1 and "cumsum" in result.others[0]
    assert functions(result) == [
        "gos_cross_correlation_sum_add_relu",
        "gos_add",
        "gos_cross_correlation_sum_add_relu",
        "gos_avg_pool",
    ]


def test_numbers_that_are_not_float32_stay_with_tvm(tmp_path: Path) -> None:
    def chosen(x: Tensor) -> Tensor:
        y = torch.relu(x) * 2
        return torch.where(y > 1, y, -y) + (x > 0).sum() + x.argmax(1, keepdim=True)

    class Chosen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return chosen(x) * 2

    result = compiled(Chosen(), (torch.randn(3, 10),), tmp_path)
    assert functions(result)[0] == "gos_relu_affine" and result.others


def test_an_lstm(tmp_path: Path) -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True)
            self.head = nn.Linear(10, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.lstm(2 * x)[0]))

    torch.manual_seed(0)
    compiled(Words().eval(), (torch.randn(4, 2, 6),), tmp_path)


def test_a_branch_has_networks_of_its_own(tmp_path: Path) -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.linear(x))
            y = torch.cond(x.sum() > 1e9, lambda x: x + 1, lambda x: x * 2, (x,))
            return torch.relu(self.linear(y)) + x

    torch.manual_seed(0)
    compiled(Branch().eval(), (torch.randn(2, 6),), tmp_path)


class Shared(nn.Module):
    """One module called twice, tied weights, a value that is output and read on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 10)
        self.tied = nn.Linear(10, 10)
        self.tied.weight = self.linear.weight

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = torch.relu(self.linear(x))
        z = self.tied(torch.relu(self.linear(y)))
        again = torch.relu(self.linear(x))  # what y is
        return y, z + again, y.view(5, 2), x, x


def test_shared_modules_and_several_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = compiled(Shared().eval(), (torch.randn(1, 10),), tmp_path)
    assert functions(result) == [
        *("gos_matmul_add_relu", "gos_matmul_add_relu", "gos_matmul_add_add"),
    ]
    assert [call["operator"] for call in result.kernels] == [
        *("linear", "linear", "tied"),
    ]
    assert result.memory is not None
    assert result.memory["weights_bytes"] < 2 * 4 * 100  # the tied ones once


def test_what_is_written_back_is_not_computed(tmp_path: Path) -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(6))

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add_(x.sum(0).exp())
            return torch.relu(x)

    result = compiled(Counter().eval(), (torch.randn(2, 6),), tmp_path)
    assert functions(result) == ["gos_relu"] and result.others == ()
