"""The command ``gos-fx show``."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gos_fx import tables_show
from gos_fx.errors import BadOption
from gos_fx.verbs import Found, Outcome, names_input_option

if TYPE_CHECKING:
    from gos_fx.passes.operators import Operator


def add_options(parser: Any) -> None:
    """What the command takes behind MODEL and its inputs."""
    parser.add_argument(
        "--operator",
        metavar="NAME",
        help="only this operator, or those inside the module of this name",
    )
    parser.add_argument(
        "--template",
        action="store_true",
        help="sizes as symbols, one graph for all operators of a kind",
    )


def show(arguments: argparse.Namespace) -> Outcome:
    """Instruction graphs of the model's operators, and what has none."""
    from gos_fx import api
    from gos_fx.arguments import load_inputs, load_model

    with names_input_option():
        lowered = api.lower(
            load_model(arguments.model, arguments.weights),
            load_inputs(arguments.input),
        )
    operators: Sequence[Operator] = lowered.operators
    if arguments.operator is not None:
        operators = _named(operators, arguments.operator)
    with_graph = [_row(op) for op in operators if op.template is not None]
    others = [op for op in operators if op.template is None]
    found: Found = {
        "model": arguments.model,
        "operator": arguments.operator,
        "shown": "template" if arguments.template else "graph",
        "operators": with_graph,
        "not_lowered": [{"name": op.name, "reason": op.reason} for op in others],
        "lowered": len(with_graph),
        "count": len(operators),
        "coverage": len(with_graph) / len(operators) if operators else 1.0,
    }
    return Outcome(found, tables_show.show_graphs)


def _row(operator: Operator) -> Found:
    assert operator.template is not None
    return {
        "name": operator.name,
        "modules": list(operator.modules),
        "inputs": list(operator.inputs),
        "outputs": list(operator.outputs),
        "sizes": dict(operator.bindings),
        "template": operator.template.text,
        "graph": operator.concrete.text,
    }


def _named(operators: Sequence[Operator], name: str) -> list[Operator]:
    """The operators that ``name`` leads or is part of, or that are inside of it."""
    exact = [op for op in operators if name in (op.name, *op.modules)]
    found = exact or [op for op in operators if op.name.startswith(f"{name}.")]
    if found:
        return found
    known = [member for op in operators for member in (op.name, *op.modules)]
    near = difflib.get_close_matches(name, dict.fromkeys(known), n=5, cutoff=0.4)
    listed = ", ".join(near or [op.name for op in operators[:5]])
    raise BadOption(
        f"the model has no operator {name!r}",
        where="--operator",
        do=f"it has {listed}" if listed else "it has none",
    )
