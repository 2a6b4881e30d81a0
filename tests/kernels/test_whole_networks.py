"""Networks of the real world as one network each: what fuses, and that all is ours."""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from tvm import relax

import gos_fx.instructions  # noqa: F401  (declares the instructions)
from gos_fx.kernels.emit import KernelCall
from gos_fx.kernels.importer.program import import_program
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.targets.target import get

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed (extra test)", allow_module_level=True)

EPILOGUE = {"add", "clip", "relu", "affine", "hadamard", "gelu"}


def imported(name: str, size: int) -> tuple[Any, list[KernelCall]]:
    """The body of ``main``, and our kernels."""
    from benchmarks.torchvision_models import network

    calls: list[KernelCall] = []
    model: nn.Module = network(name)
    x = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        opaque = make_opaque(model, (x,))
        program = torch.export.export(opaque, (x,))
    module = import_program(program, get("arm_a53").machine, calls)
    (block,) = module["main"].body.blocks
    return [binding.value for binding in block.bindings], calls


def kinds(calls: list[KernelCall]) -> Counter[str]:
    """Anchors of the kernels; the element-wise functions where those stand alone."""
    names = (call.function.rstrip("0123456789").split("_") for call in calls)
    return Counter("_".join(part for part in name[1:3]) for name in names)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        # 20 convolutions, 1 linear, pools of the stem and of the head
        ("resnet18", 64, {"cross_correlation": 20, "max_pool": 1, "avg_pool": 1}),
        ("mobilenet_v2", 64, {"cross_correlation": 52, "avg_pool": 1}),
        # 8 squeeze-excites, each a mean, two small convolutions and a product
        ("mobilenet_v3_large", 64, {"cross_correlation": 62, "avg_pool": 9,
                                    "hadamard": 8}),
        ("inception_v3", 299, {"cross_correlation": 94, "max_pool": 4, "avg_pool": 10,
                               "concat": 15}),
        ("squeezenet1_1", 64, {"cross_correlation": 26, "max_pool": 3, "avg_pool": 1,
                               "concat": 8}),
        ("vgg11_bn", 32, {"cross_correlation": 8, "max_pool": 5}),
        ("shufflenet_v2_x1_0", 64, {"cross_correlation": 56, "max_pool": 1,
                                    "avg_pool": 1, "concat": 16, "move": 16}),
        # 4 linear layers and 2 products in each of 12 blocks
        ("vit_b_16", 224, {"cross_correlation": 1, "concat_add": 1, "layer_norm": 25,
                           "softmax": 12, "matmul": 6 * 12}),
    ],
)  # fmt: skip
def test_kernels(name: str, size: int, expected: dict[str, int]) -> None:
    values, calls = imported(name, size)
    found: Counter[str] = Counter()
    for kind, count in kinds(calls).items():
        found[kind if not kind.startswith("matmul") else "matmul"] += count
    # vgg's average over 7 x 7 windows of one pixel is a product along each axis.
    heads = {"mobilenet_v3_large": 2, "vgg11_bn": 3 + 2}
    if name != "squeezenet1_1":
        expected = Counter(expected) + Counter(matmul=heads.get(name, 1))
    assert found == expected
    # Nothing but calls of our kernels, and the same memory under another shape.
    used = {getattr(value.op, "name", "") for value in values if hasattr(value, "op")}
    assert used <= {"relax.call_tir", "relax.reshape"}
    assert not any(isinstance(value, relax.Tuple) for value in values)


def test_epilogues() -> None:
    """An activation or a residual sum is never a kernel of its own."""
    _, calls = imported("mobilenet_v2", 64)
    whole = Counter(call.function.rstrip("0123456789") for call in calls)
    assert whole == {
        "gos_cross_correlation_sum_add_clip": 35,
        "gos_cross_correlation_sum_add": 7,
        "gos_cross_correlation_sum_add_add": 10,
        "gos_avg_pool": 1,
        "gos_matmul_add": 1,
    }
    _, calls = imported("vit_b_16", 224)
    whole = Counter(call.function.rstrip("0123456789") for call in calls)
    assert whole["gos_matmul_add_gelu"] == 12
    assert whole["gos_matmul_add_add"] == 24  # behind attention and behind the MLP
    assert whole["gos_matmul_affine"] == 12


def test_images_lie_with_their_channels_side_by_side() -> None:
    values, _ = imported("mobilenet_v2", 64)
    shapes = [value.ty_args[0].shape for value in values if hasattr(value, "ty_args")
              and value.op.name == "relax.call_tir"]  # fmt: skip
    images = [tuple(int(n) for n in shape) for shape in shapes if len(shape) == 4]
    assert (1, 32, 32, 16) in images and (1, 2, 2, 1280) in images
    assert (1, 16, 32, 32) not in images
