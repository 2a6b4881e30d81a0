"""What an emitted module was made from, carried inside the module."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse

# A buffer survives deepcopy, pickle, state_dict and torch.export; node.meta does not.
SOURCE = "gos_source"


@dataclass(frozen=True)
class Source:
    """What an emitted module was made from.

    ``digest`` is that of the emitted code, so that an edit by hand is noticed.
    """

    template: Graph
    bindings: Mapping[str, int]
    digest: str

    @property
    def concrete(self) -> Graph:
        return self.template.instantiate(self.bindings)

    def to_tensor(self) -> Tensor:
        """UTF-8 JSON as a uint8 tensor."""
        record = {
            "template": self.template.text,
            "bindings": dict(self.bindings),
            "digest": self.digest,
        }
        return torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)

    @staticmethod
    def from_tensor(data: Tensor) -> Source:
        """Raises ParseError or VerifyError where the text is not a graph."""
        record = json.loads(bytes(data.tolist()).decode())
        template = parse(record["template"])
        return Source(template, record["bindings"], record["digest"])


def source_of(module: nn.Module) -> Source | None:
    """What an emitted module was made from, or None for any other module.

    Raises:
        VerifyError: the module's code was edited since it was emitted.
    """
    data = getattr(module, SOURCE, None)
    if not isinstance(data, Tensor) or not isinstance(module, fx.GraphModule):
        return None
    source = Source.from_tensor(data)
    if code_digest(module) != source.digest:
        raise VerifyError(
            "the code was edited and is no longer that of its instruction graph",
            where=source.template.name,
            do=f"delete its buffer {SOURCE} to have it compiled as ordinary torch code",
        )
    return source


def code_digest(module: fx.GraphModule) -> str:
    """SHA-256 of what the forward does. Names do not count: pickling changes them."""
    index = {node: f"%{i}" for i, node in enumerate(module.graph.nodes)}
    lines = []
    for node in module.graph.nodes:
        target = node.target if node.op != "placeholder" else ""
        if not isinstance(target, str):
            target = getattr(target, "__name__", repr(target))
        operands = fx.map_arg((node.args, node.kwargs), lambda n: index[n])
        lines.append(f"{node.op} {target} {operands}")
        if node.op == "call_module":
            inner = module.get_submodule(str(node.target)).modules()
            lines += [code_digest(m) for m in inner if isinstance(m, fx.GraphModule)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
