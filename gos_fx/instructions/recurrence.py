"""Scan: a graph that is repeated along the time axis, with named states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gos_fx.errors import VerifyError
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.dim import Dim, combine
from gos_fx.ir.graph import Graph, Input
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.opcode import OPCODES, instruction
from gos_fx.ir.types import Type
from gos_fx.ir.types import bundle as bundle_type

TIME = 1  # the axis that a step of a sequence lacks


def is_step(value: Input, states: Sequence[str]) -> bool:
    """Whether an input of a body is one step of a sequence."""
    return value.type.role == "map" and value.name not in states


def _shape(*types: Type, body: Graph, states: tuple[str, ...], **_: Any) -> Type:
    if len(types) != len(body.inputs):
        raise VerifyError(
            f"{body.name} takes {len(body.inputs)} values, not {len(types)}"
        )
    names = [value.name for value in body.inputs if value.type.role == "map"]
    if not states or len(set(states)) != len(states):
        raise VerifyError("states must be named, each once")
    if missing := [name for name in states if name not in names]:
        raise VerifyError(f"{body.name} has no map input {missing[0]}")
    length: Dim | None = None
    for value, found in zip(body.inputs, types, strict=True):
        wanted = value.type
        if is_step(value, states):
            if found.rank < 2 or length not in (None, found.shape[TIME]):
                raise VerifyError(f"{found} is no sequence of the others' length")
            length = found.shape[TIME]
            shape = (*found.shape[:TIME], *found.shape[TIME + 1 :])
            found = replace(found, shape=shape)
        if value.name in states:
            found = replace(found, role="map")  # a state may begin as zeros
        if found != wanted:
            raise VerifyError(
                f"{body.name} takes {wanted} as {value.name}, not {found}"
            )
    if length is None:
        raise VerifyError(f"{body.name} reads no sequence")
    by_name = {v.name: v.type for v in body.inputs}
    if [by_name[name] for name in states] != list(body.result.values):
        raise VerifyError(f"{body.name} gives {body.result}, not the next states")
    return bundle_type(
        [
            replace(t, shape=(*t.shape[:TIME], length, *t.shape[TIME:]))
            for t in body.result.values
        ]
    )


def _flops(
    out: Type, *types: Type, body: Graph, states: tuple[str, ...], **_: Any
) -> Dim:
    step: Dim = 0
    for node in body.nodes:
        operands = [body.types[name] for name in node.operands]
        step = step + OPCODES[node.opcode].flops(node.type, *operands, **node.attrs)
    return combine("*", step, out.parts[0].shape[TIME])


def _onnx(
    b: Any,
    operands: Sequence[str],
    types: Sequence[Type],
    result: Type,
    attributes: Mapping[str, Any],
) -> tuple[str, ...]:
    """``Scan``, which gives the last states and then each state after every step."""
    body, states = attributes["body"], attributes["states"]
    values = {v.name: name for v, name in zip(body.inputs, operands, strict=True)}
    steps = [v.name for v in body.inputs if is_step(v, states)]
    reverse = int(attributes.get("reverse", False))
    found: tuple[str, ...] = b.op(
        "Scan",
        *(values[name] for name in (*states, *steps)),
        outputs=2 * len(states),
        body=b.body(body, values, (*states, *steps), times=2),
        num_scan_inputs=len(steps),
        scan_input_axes=[TIME] * len(steps),
        scan_output_axes=[TIME] * len(states),
        scan_input_directions=[reverse] * len(steps),
        scan_output_directions=[reverse] * len(states),
    )
    return found[len(states) :]


@instruction(
    category="structure",
    attributes={
        "body": Attribute("graph"),
        "states": Attribute("names"),
        "reverse": Attribute("flag", False, optional=True),
    },
    shape=_shape,
    flops=_flops,
    rtol=1e-4,
    table1=False,
    variadic=True,
    opaque=True,
    onnx=_onnx,
)
def scan(
    *values: Tensor, body: Graph, states: tuple[str, ...], reverse: bool = False
) -> tuple[Tensor, ...]:
    """s[t] = body(x[t], s[t - 1], w): each state after every step, [N, T, ...]

    Values in the order of the body's inputs: sequences [N, T, ...] for its steps, first
    states for those named in ``states``, weights whole. ``reverse`` begins at the end.
    """
    given = {v.name: value for v, value in zip(body.inputs, values, strict=True)}
    steps = {
        v.name: given[v.name].unbind(TIME) for v in body.inputs if is_step(v, states)
    }
    length = len(next(iter(steps.values())))
    now: dict[str, Tensor] = {name: given[name] for name in states}
    seen: dict[str, list[Tensor]] = {name: [] for name in states}
    for t in reversed(range(length)) if reverse else range(length):
        result = _step(body, given | now | {k: v[t] for k, v in steps.items()})
        now = dict(zip(states, result, strict=True))
        for name, value in now.items():
            seen[name].append(value)
    order = -1 if reverse else 1
    return tuple(torch.stack(seen[name][::order], TIME) for name in states)


def _step(body: Graph, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    found = evaluate(body, values)
    return found if body.result.is_bundle else (found,)
