"""Scans in emitted code: a loop that calls the body, which is a module of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from gos_fx.instructions.recurrence import TIME
from gos_fx.ir.graph import Graph, Node
from gos_fx.passes.emission import Emitter, body_module, emits

_STEP = "step"  # what an input of the body is, if it is no state
_WHOLE = "whole"


class ScanLoop(nn.Module):
    """s[t] = body(x[t], s[t - 1], w): each state after every step, [N, T, ...]

    Args:
        body: takes one value for each entry of ``kinds``, gives the next states.
        kinds: ``step`` of a sequence, ``whole`` for what is the same at each step, or
            the name of a state.
        states: names in the order in which the body gives them.
        reverse: the last step comes first.
    """

    def __init__(
        self,
        body: fx.GraphModule,
        kinds: Sequence[str],
        states: Sequence[str],
        reverse: bool = False,
    ) -> None:
        super().__init__()
        self.body = body
        self.kinds, self.states = tuple(kinds), tuple(states)
        self.reverse = reverse

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        given = list(values)
        places = [self.kinds.index(state) for state in self.states]
        length = values[self.kinds.index(_STEP)].shape[TIME]
        seen: list[list[Tensor]] = [[] for _ in self.states]
        for t in reversed(range(length)) if self.reverse else range(length):
            now = [
                value.select(TIME, t) if kind == _STEP else value
                for kind, value in zip(self.kinds, given, strict=True)
            ]
            result = self.body(*now)
            following = result if isinstance(result, tuple) else (result,)
            for place, value, past in zip(places, following, seen, strict=True):
                given[place] = value
                past.append(value)
        order = -1 if self.reverse else 1
        return tuple(torch.stack(past[::order], TIME) for past in seen)


@emits("scan")
def _scan(emitter: Emitter, node: Node, operands: Sequence[Any], like: Any) -> Any:
    body: Graph = node.attr("body")
    template: Graph = emitter.template_of(node).attr("body")
    states = node.attr("states")
    kinds = [_kind(value.type.role, value.name, states) for value in body.inputs]
    loop = ScanLoop(
        body_module(body, template), kinds, states, node.attrs.get("reverse", False)
    )
    found: Any = emitter.call(f"{body.name}_{node.name}", loop, operands, node.type)
    return tuple(found[i] for i in range(len(states)))


def _kind(role: str, name: str, states: Sequence[str]) -> str:
    if name in states:
        return name
    return _STEP if role == "map" else _WHOLE
