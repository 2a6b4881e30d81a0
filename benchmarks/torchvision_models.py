"""Networks of torchvision, also where its binary extension does not load.

With the CPU build of torch it does not: it was built for CUDA's. The models need
nothing of it but the declarations of two operators, which are made here.
"""

from __future__ import annotations

import contextlib

import torch
from torch import nn

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# Inception's own initial weights would blow its outputs up to 1e12.
_OPTIONS = {"inception_v3": {"init_weights": False}}
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def network(name: str, seed: int = 0) -> nn.Module:
    """``torchvision.models.<name>`` with random weights, in eval mode.

    Batch norms get statistics and gains that are not the initial ones, so that folding
    them changes something, and layers of zeros (a vision transformer's last one) normal
    numbers, so that an output says something.
    """
    _declare()
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = getattr(models, name)(weights=None, **_OPTIONS.get(name, {}))
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.1)
                    module.running_var.uniform_(0.8, 1.2)
                    module.weight.uniform_(0.8, 1.2)
                    module.bias.normal_(std=0.1)
                if isinstance(module, nn.Linear) and not module.weight.any():
                    module.weight.normal_(std=module.in_features**-0.5)
    return model.eval()


def _declare() -> None:
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            with contextlib.suppress(RuntimeError):  # the extension declared it
                _LIBRARY.define(name + schema)
